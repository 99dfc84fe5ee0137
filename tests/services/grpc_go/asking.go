package main

import (
	"context"
	"reflect"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

const (
	// atOnce is how many calls are abandoned at a time: fewer than a connection may have.
	atOnce = 100
	// callers is how many ask at once on a channel whose connections age, so that some call is always in flight.
	callers = 4
	// told is how many failures are told of.
	told = 5
	// pause lets others have the machine between two calls.
	pause = 2 * time.Millisecond
)

// busy asks much on one channel.
func busy(plan Plan, endpoint Endpoint) Busy {
	channel := open(endpoint)
	defer channel.Close()
	seen := Busy{Calls: map[string]Reply{}, Abandoned: map[int]int{}}
	for _, call := range plan.Calls {
		seen.Calls[call.Name] = channel.ask(call)
	}
	for _, crowd := range plan.Crowds {
		seen.Crowds = append(seen.Crowds, together(channel, crowd))
	}
	ctx, cancel := context.WithTimeout(context.Background(), seconds(plan.Overdue))
	defer cancel()
	seen.Overdue = channel.begin(ctx, plan.Calls[0])()
	for left := plan.Abandoned; left > 0; left -= atOnce {
		for _, reply := range abandoned(channel, plan.Calls[0], min(left, atOnce)) {
			seen.Abandoned[reply.Code]++
		}
	}
	seen.Again = channel.ask(plan.Calls[0])
	seen.Connections = int(channel.connections.Load())
	return seen
}

// together makes all calls of a crowd at the same time, and gives the different replies to each.
func together(channel *channel, crowd Crowd) [][]Reply {
	replies := make([]Reply, len(crowd.Calls)*crowd.Times)
	var all sync.WaitGroup
	for at := range replies {
		at := at
		all.Add(1)
		go func() {
			defer all.Done()
			replies[at] = channel.ask(crowd.Calls[at%len(crowd.Calls)])
		}()
	}
	all.Wait()
	different := make([][]Reply, len(crowd.Calls))
	for at, reply := range replies {
		of := at % len(crowd.Calls)
		if len(different[of]) == 0 || !reflect.DeepEqual(different[of][0], reply) {
			different[of] = append(different[of], reply)
		}
	}
	return different
}

// abandoned begins calls, leaves the node a moment to see them, and cancels them.
func abandoned(channel *channel, ask Ask, count int) []Reply {
	ctx, cancel := context.WithCancel(context.Background())
	ends := make([]func() Reply, count)
	for at := range ends {
		ends[at] = channel.begin(ctx, ask)
	}
	time.Sleep(50 * time.Millisecond)
	cancel()
	replies := make([]Reply, count)
	for at, end := range ends {
		replies[at] = end()
	}
	return replies
}

// quiet asks, is silent but for pings, and asks again.
func quiet(plan Plan, endpoint Endpoint) Quiet {
	channel := open(endpoint, grpc.WithKeepaliveParams(Probing))
	defer channel.Close()
	before := channel.ask(plan.Calls[0])
	time.Sleep(seconds(plan.Quiet))
	after := channel.ask(plan.Calls[0])
	return Quiet{Before: before, After: after, Connections: int(channel.connections.Load())}
}

// stranger asks without a certificate of its own.
func stranger(plan Plan, endpoint Endpoint) Reply {
	endpoint.Certificate, endpoint.Key = "", ""
	channel := open(endpoint)
	defer channel.Close()
	return channel.ask(plan.Calls[0])
}

// aging asks on one channel until it has had so many connections.
func aging(plan Plan) Aged {
	channel := open(plan.Aging)
	defer channel.Close()
	seen := Aged{Failed: []Reply{}}
	until := time.Now().Add(Patience)
	var lock sync.Mutex
	var all sync.WaitGroup
	for caller := 0; caller < callers; caller++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for int(channel.connections.Load()) < plan.Connections && time.Now().Before(until) {
				reply := channel.ask(plan.Calls[0])
				lock.Lock()
				seen.Asked++
				if codes.Code(reply.Code) != codes.OK && len(seen.Failed) < told {
					seen.Failed = append(seen.Failed, reply)
				}
				lock.Unlock()
				time.Sleep(pause)
			}
		}()
	}
	all.Wait()
	seen.Connections = int(channel.connections.Load())
	return seen
}

func seconds(count float64) time.Duration {
	return time.Duration(count * float64(time.Second))
}

func min(one, other int) int {
	if one < other {
		return one
	}
	return other
}
