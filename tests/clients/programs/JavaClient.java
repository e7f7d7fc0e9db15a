import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.AdminClient;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The contract of tests/clients/README.md for Kafka's own client: compiled against each version of it, from 2.1 on. */
public class JavaClient {
    private final String bootstrap;
    private final TopicPartition partition;

    JavaClient(String bootstrap, String topic) {
        this.bootstrap = bootstrap;
        this.partition = new TopicPartition(topic, 0);
    }

    public static void main(String[] arguments) throws Exception {
        JavaClient client = new JavaClient(arguments[0], arguments[1]);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ");
            try {
                switch (words[0]) {
                    case "produce" -> client.produce(words[1], words[2], Long.parseLong(words[3]), Path.of(words[4]));
                    case "consume" -> client.consume(words[1], words[2]);
                    case "group" -> client.group();
                    case "topics" -> client.topics();
                    case "commit" -> client.commit();
                    case "transaction" -> client.transaction();
                    case "create" -> client.create();
                    default -> say("error unknown command " + words[0]);
                }
            } catch (Exception error) {
                Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
                cause.printStackTrace();
                say("error " + cause.toString().replace('\n', ' '));
            }
            say("done");
        }
    }

    private Properties properties(String... more) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("reconnect.backoff.ms", "50");
        properties.put("reconnect.backoff.max.ms", "500");
        for (int i = 0; i < more.length; i += 2) {
            properties.put(more[i], more[i + 1]);
        }
        return properties;
    }

    private void produce(String compression, String idempotent, long paceMs, Path file) throws Exception {
        Properties properties = properties("acks", "all", "linger.ms", "5", "compression.type", compression,
            "enable.idempotence", idempotent, "max.request.size", "2097152", "delivery.timeout.ms", "60000");
        ArrayDeque<Future<RecordMetadata>> answers = new ArrayDeque<>();
        try (var producer = new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (String line : Files.readAllLines(file)) {
                String[] words = line.split(" ");
                var headers = headers(words[2]);
                answers.add(producer.send(new ProducerRecord<>(partition.topic(), 0, data(words[0]), data(words[1]), headers)));
                if (paceMs > 0) {
                    Thread.sleep(paceMs);
                    while (!answers.isEmpty() && answers.peek().isDone()) {
                        sayOffset(answers.remove());
                    }
                }
            }
            while (!answers.isEmpty()) {
                sayOffset(answers.remove());
            }
        }
    }

    private static void sayOffset(Future<RecordMetadata> answer) throws Exception {
        say("offset " + answer.get(60, TimeUnit.SECONDS).offset());
    }

    private KafkaConsumer<byte[], byte[]> consumer(String... more) {
        Properties properties = properties(more);
        properties.put("enable.auto.commit", "false");
        properties.put("fetch.max.wait.ms", "100");
        return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private void consume(String start, String lastKey) {
        String[] more = {"group.id", "no-such-group", "auto.offset.reset", "earliest"};
        try (var consumer = consumer(start.equals("committed") ? more : new String[0])) {
            consumer.assign(List.of(partition));
            seek(consumer, start);
            consumer.position(partition);
            say("ready");
            while (true) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    String key = word(record.key());
                    say("record " + record.offset() + " " + record.timestamp() + " " + key + " " + word(record.value())
                        + " " + headerWords(record.headers()));
                    if (key.equals(lastKey)) {
                        return;
                    }
                }
            }
        }
    }

    private void seek(KafkaConsumer<byte[], byte[]> consumer, String start) {
        if (start.equals("committed")) {
            return;
        }
        if (start.equals("beginning")) {
            consumer.seekToBeginning(List.of(partition));
        } else if (start.equals("end")) {
            consumer.seekToEnd(List.of(partition));
        } else if (start.startsWith("@")) {
            var times = Map.of(partition, Long.parseLong(start.substring(1)));
            consumer.seek(partition, consumer.offsetsForTimes(times).get(partition).offset());
        } else {
            consumer.seek(partition, Long.parseLong(start));
        }
    }

    private void group() {
        try (var consumer = consumer("group.id", "no-such-group")) {
            consumer.subscribe(List.of(partition.topic()));
            consumer.poll(Duration.ofSeconds(20));
        }
    }

    private void topics() throws Exception {
        try (var admin = AdminClient.create(properties())) {
            for (String name : admin.listTopics().names().get(20, TimeUnit.SECONDS)) {
                say("topic " + name);
            }
        }
    }

    private void commit() {
        try (var consumer = consumer("group.id", "no-such-group")) {
            consumer.assign(List.of(partition));
            consumer.commitSync(Map.of(partition, new OffsetAndMetadata(1)), Duration.ofSeconds(20));
        }
    }

    private void transaction() {
        Properties properties = properties("transactional.id", "no-such-transaction", "max.block.ms", "20000");
        try (var producer = new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            producer.initTransactions();
        }
    }

    private void create() throws Exception {
        try (var admin = AdminClient.create(properties())) {
            admin.createTopics(List.of(new NewTopic("new-topic", 1, (short) 1))).all().get(20, TimeUnit.SECONDS);
        }
    }

    private static void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static String word(byte[] data) {
        return data == null ? "-" : "x" + HexFormat.of().formatHex(data);
    }

    private static byte[] data(String word) {
        return word.equals("-") ? null : HexFormat.of().parseHex(word.substring(1));
    }

    private static String headerWords(Iterable<Header> headers) {
        List<String> words = new ArrayList<>();
        for (Header header : headers) {
            words.add(word(header.key().getBytes(StandardCharsets.UTF_8)) + "=" + word(header.value()));
        }
        return words.isEmpty() ? "." : String.join(",", words);
    }

    private static List<Header> headers(String words) {
        List<Header> headers = new ArrayList<>();
        for (String pair : words.equals(".") ? new String[0] : words.split(",")) {
            String[] parts = pair.split("=");
            headers.add(new RecordHeader(new String(data(parts[0]), StandardCharsets.UTF_8), data(parts[1])));
        }
        return headers;
    }
}
