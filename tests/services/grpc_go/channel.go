package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"os"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Patience is a bound for a busy machine.
const Patience = 60 * time.Second

// Probing is the shortest time between two keepalive pings that grpc-go allows itself.
var Probing = keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}

func init() {
	// In the place of protobuf's, so that calls look the same on the wire.
	encoding.RegisterCodec(octets{})
}

// octets is a codec that leaves messages as they are.
type octets struct{}

func (octets) Name() string                        { return "proto" }
func (octets) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }
func (octets) Unmarshal(read []byte, into any) error {
	*into.(*[]byte) = append([]byte{}, read...)
	return nil
}

// channel is a client's channel that counts the connections it has had.
type channel struct {
	*grpc.ClientConn
	connections atomic.Int64
}

func open(endpoint Endpoint, options ...grpc.DialOption) *channel {
	opened := &channel{}
	options = append(options, grpc.WithTransportCredentials(proving(endpoint)), grpc.WithStatsHandler(opened))
	// An address is no name to be looked up.
	connection, err := grpc.NewClient("passthrough:///"+endpoint.Address, options...)
	if err != nil {
		log.Fatalf("no channel to %s: %v", endpoint.Address, err)
	}
	opened.ClientConn = connection
	return opened
}

func proving(endpoint Endpoint) credentials.TransportCredentials {
	if endpoint.Authority == "" {
		return insecure.NewCredentials()
	}
	authority, err := os.ReadFile(endpoint.Authority)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		log.Fatalf("no certificate in %s", endpoint.Authority)
	}
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if endpoint.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(endpoint.Certificate, endpoint.Key)
		if err != nil {
			log.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(config)
}

func (*channel) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*channel) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*channel) HandleRPC(context.Context, stats.RPCStats)                         {}
func (c *channel) HandleConn(_ context.Context, happened stats.ConnStats) {
	if _, is := happened.(*stats.ConnBegin); is {
		c.connections.Add(1)
	}
}

// ask makes one call and waits for what comes of it.
func (c *channel) ask(ask Ask) Reply {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var options []grpc.CallOption
	if ask.Gzip {
		options = append(options, grpc.UseCompressor(gzip.Name))
	}
	if ask.Streaming {
		return c.stream(ctx, ask, options)
	}
	var answer []byte
	if err := c.Invoke(ctx, ask.Method, &ask.Request, &answer, options...); err != nil {
		return ended(err)
	}
	return ended(nil, answer)
}

// stream sends one message on a call that could take more, and reads to its end.
func (c *channel) stream(ctx context.Context, ask Ask, options []grpc.CallOption) Reply {
	both := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	call, err := c.NewStream(ctx, both, ask.Method, options...)
	if err != nil {
		return ended(err)
	}
	// What ended the call is told where its answers are read.
	if err := call.SendMsg(&ask.Request); err != nil && err != io.EOF {
		return ended(err)
	}
	if err := call.CloseSend(); err != nil {
		return ended(err)
	}
	var answers [][]byte
	for {
		var answer []byte
		if err := call.RecvMsg(&answer); err == io.EOF {
			return ended(nil, answers...)
		} else if err != nil {
			return ended(err, answers...)
		}
		answers = append(answers, answer)
	}
}

// begin begins a call that lacks its message, and gives what waits for its end.
func (c *channel) begin(ctx context.Context, ask Ask) func() Reply {
	call, err := c.NewStream(ctx, &grpc.StreamDesc{}, ask.Method)
	return func() Reply {
		if err == nil {
			var answer []byte
			err = call.RecvMsg(&answer)
		}
		if err == nil {
			err = fmt.Errorf("a call without a message was answered")
		}
		return ended(err)
	}
}

func ended(err error, answers ...[]byte) Reply {
	said := status.Convert(err)
	reply := Reply{Code: int(said.Code()), Message: said.Message(), Answers: answers}
	if reply.Answers == nil {
		reply.Answers = [][]byte{}
	}
	if told := said.Proto(); len(told.GetDetails()) > 0 {
		details, err := proto.Marshal(told)
		if err != nil {
			log.Fatal(err)
		}
		reply.Details = details
	}
	return reply
}
