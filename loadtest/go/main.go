// An echo on grpc-go, for benchmarks only: `echo_go FILE` answers Resolve with the message in the file, which stands
// there as gRPC frames it. Messages stay the bytes that they are: nothing is decoded or encoded.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"

	"google.golang.org/grpc"
)

// Bytes before a message: a flag for compression, and its length.
const head = 5

// octets leaves messages as they are.
type octets struct{}

func (octets) Name() string                              { return "proto" }
func (octets) Marshal(message any) ([]byte, error)       { return *message.(*[]byte), nil }
func (octets) Unmarshal(received []byte, into any) error { *into.(*[]byte) = received; return nil }

func main() {
	framed, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	answer := framed[head:]
	resolve := func(_ any, _ context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var asked []byte
		return &answer, read(&asked)
	}
	server := grpc.NewServer(grpc.ForceServerCodec(octets{}))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "topnode.resolver.v1.ResolverService",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Resolve", Handler: resolve}},
	}, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go func() {
		// Whoever started it is gone when standard input ends.
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	log.Fatal(server.Serve(listener))
}
