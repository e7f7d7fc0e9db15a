// kafkajs: the contract of tests/clients/README.md. Its consumers always want a group, so it only produces.
'use strict'

const fs = require('fs')
const readline = require('readline')
const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = require('kafkajs')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
const Lz4 = require('kafkajs-lz4')
CompressionCodecs[CompressionTypes.LZ4] = new Lz4().codec
const zstd = require('@mongodb-js/zstd')
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: encoder => zstd.compress(encoder.buffer),
  decompress: buffer => zstd.decompress(buffer)
})

const [bootstrap, topic] = process.argv.slice(2)
const kafka = new Kafka({
  brokers: bootstrap.split(','),
  logLevel: logLevel.ERROR,
  retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 60 }
})
const TYPES = {
  none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD
}

const say = (...words) => console.log(words.join(' '))
const data = word => (word === '-' ? null : Buffer.from(word.slice(1), 'hex'))
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

function headers (words) {
  const named = {}
  for (const pair of words === '.' ? [] : words.split(',')) {
    const [name, value] = pair.split('=').map(data)
    named[name] = name in named ? [named[name], value].flat() : value
  }
  return named
}

function readMessages (path) {
  return fs.readFileSync(path, 'ascii').trimEnd().split('\n').map(line => {
    const [key, value, words] = line.split(' ')
    return { key: data(key), value: data(value), headers: headers(words), partition: 0 }
  })
}

async function produce (compression, idempotent, paceMs, path) {
  const producer = kafka.producer({ idempotent: idempotent === 'true', maxInFlightRequests: 1 })
  await producer.connect()
  try {
    const messages = readMessages(path)
    // One request, and one batch, is what one call sends.
    const step = Number(paceMs) ? 1 : 100
    for (let at = 0; at < messages.length; at += step) {
      const part = messages.slice(at, at + step)
      const [told] = await producer.send({ topic, acks: -1, compression: TYPES[compression], messages: part })
      part.forEach((_, n) => say('offset', Number(told.baseOffset) + n))
      await sleep(Number(paceMs))
    }
  } finally {
    await producer.disconnect()
  }
}

async function group () {
  const consumer = new Kafka({ brokers: bootstrap.split(','), logLevel: logLevel.NOTHING }).consumer({ groupId: 'no-such-group' })
  await consumer.connect()
  try {
    await consumer.subscribe({ topic })
    const crashed = new Promise((resolve, reject) => consumer.on('consumer.crash', event => reject(event.payload.error)))
    await Promise.race([Promise.all([crashed, consumer.run({ eachMessage: async () => {} })]), sleep(20000)])
  } finally {
    await consumer.disconnect()
  }
}

async function topics () {
  const admin = kafka.admin()
  await admin.connect()
  try {
    for (const name of await admin.listTopics()) say('topic', name)
  } finally {
    await admin.disconnect()
  }
}

async function transaction () {
  const options = { brokers: bootstrap.split(','), logLevel: logLevel.NOTHING, retry: { retries: 3 } }
  const producer = new Kafka(options).producer({ transactionalId: 'no-such-transaction', maxInFlightRequests: 1, idempotent: true })
  await producer.connect()
  try {
    await producer.transaction()
  } finally {
    await producer.disconnect()
  }
}

async function create () {
  const admin = new Kafka({ brokers: bootstrap.split(','), logLevel: logLevel.NOTHING }).admin()
  await admin.connect()
  try {
    await admin.createTopics({ topics: [{ topic: 'new-topic', numPartitions: 1, replicationFactor: 1 }] })
  } finally {
    await admin.disconnect()
  }
}

const commands = {
  produce,
  topics,
  group,
  transaction,
  create,
  // Its setOffsets joins the group, and waits for ever when that is refused.
  commit: async () => say('absent', 'kafkajs commits only in a group that it has joined'),
  consume: async () => say('absent', 'kafkajs consumes only in groups')
}

async function main () {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [name, ...words] = line.split(' ')
    try {
      await commands[name](...words)
    } catch (error) {
      console.error(error)
      say('error', `${error.name}: ${error.message}`.replaceAll('\n', ' '))
    }
    say('done')
  }
  process.exit(0)
}

main()
