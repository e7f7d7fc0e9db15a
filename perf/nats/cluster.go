package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"kraft/seen"
)

const (
	dialTimeout    = 5 * time.Second
	requestTimeout = 30 * time.Second
	createTimeout  = 60 * time.Second
	pollEvery      = 50 * time.Millisecond
	replicas       = 3
)

// Cluster is the servers and the stream in them, whose only subject has its name.
type Cluster struct {
	servers []string
	stream  string
}

// connect never tries again: a connection that is lost is to be seen.
func connect(servers ...string) (*nats.Conn, error) {
	return nats.Connect(strings.Join(servers, ","), nats.Timeout(dialTimeout), nats.NoReconnect(), nats.DontRandomize(),
		nats.IgnoreDiscoveredServers())
}

// Admin has one connection for questions, and knows which server has which name.
type Admin struct {
	Cluster
	connection *nats.Conn
	js         jetstream.JetStream
	addresses  map[string]string
}

func (cluster Cluster) admin() (*Admin, error) {
	connection, err := connect(cluster.servers...)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(connection)
	if err != nil {
		connection.Close()
		return nil, err
	}
	admin := &Admin{Cluster: cluster, connection: connection, js: js, addresses: map[string]string{}}
	for _, server := range cluster.servers {
		asked, err := connect(server)
		if err != nil {
			admin.close()
			return nil, err
		}
		admin.addresses[asked.ConnectedServerName()] = server
		asked.Close()
	}
	return admin, nil
}

func (admin *Admin) close() { admin.connection.Close() }

func (admin *Admin) info() (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	stream, err := admin.js.Stream(ctx, admin.stream)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", admin.stream, err)
	}
	return stream.CachedInfo(), nil
}

// near connects to the server that leads a stream or a consumer, so that nothing takes a hop more than it must.
func (admin *Admin) near(info *jetstream.ClusterInfo) (*nats.Conn, error) {
	if info == nil || info.Leader == "" {
		return nil, errors.New("there is no leader")
	}
	address, ok := admin.addresses[info.Leader]
	if !ok {
		return nil, fmt.Errorf("%s leads, which is none of --bootstrap-server", info.Leader)
	}
	return connect(address)
}

func (admin *Admin) leader() (string, error) {
	info, err := admin.info()
	if err != nil {
		return "", err
	}
	if info.Cluster == nil || admin.addresses[info.Cluster.Leader] == "" {
		return "", errors.New("the stream has no leader among --bootstrap-server")
	}
	return admin.addresses[info.Cluster.Leader], nil
}

// Create makes the stream.
type Create struct{}

func (create *Create) flags(*flag.FlagSet) {}

func (create *Create) run(cluster Cluster) (bool, error) {
	admin, err := cluster.admin()
	if err != nil {
		return false, err
	}
	defer admin.close()
	config := jetstream.StreamConfig{
		Name: cluster.stream, Subjects: []string{cluster.stream}, Storage: jetstream.FileStorage, Replicas: replicas,
		AllowAtomicPublish: true,
	}
	deadline := time.Now().Add(createTimeout)
	for {
		info, err := admin.createOnce(config)
		if err == nil {
			return true, seen.Print(map[string]any{"leader": info.Cluster.Leader, "config": info.Config})
		}
		if time.Now().After(deadline) {
			return false, fmt.Errorf("not within %s: %w", createTimeout, err)
		}
		time.Sleep(pollEvery)
	}
}

// createOnce tells why there is not yet a leader with followers that have all.
func (admin *Admin) createOnce(config jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	if _, err := admin.js.CreateStream(ctx, config); err != nil {
		return nil, err
	}
	info, err := admin.info()
	switch {
	case err != nil:
		return nil, err
	case info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != replicas-1:
		return nil, errors.New("the stream has no leader with two followers")
	}
	for _, replica := range info.Cluster.Replicas {
		if !replica.Current {
			return nil, fmt.Errorf("%s does not follow", replica.Name)
		}
	}
	return info, nil
}
