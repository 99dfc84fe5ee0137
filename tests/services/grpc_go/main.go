// Command grpc-go asks a node what the plan on its standard input says, through grpc-go, and prints what it got as one
// JSON object; tests/journeys/test_clients.py writes the plan and compares.
//
// Messages are bytes here. What they mean is protobuf's business and the same in all languages; what is tried out is how
// grpc-go and a front get on.
package main

import (
	"encoding/json"
	"log"
	"os"
	"sync"
)

func main() {
	log.SetFlags(0)
	var plan Plan
	if err := json.NewDecoder(os.Stdin).Decode(&plan); err != nil {
		log.Fatalf("the plan cannot be read: %v", err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(carriedOut(plan)); err != nil {
		log.Fatalf("what was seen cannot be told: %v", err)
	}
}

// carriedOut does all of a plan, side by side where one thing waits for nothing of another.
func carriedOut(plan Plan) Seen {
	seen := Seen{Endpoints: map[string]*AtEndpoint{}}
	var all sync.WaitGroup
	run := func(part func()) {
		all.Add(1)
		go func() {
			defer all.Done()
			part()
		}()
	}
	for name, endpoint := range plan.Endpoints {
		at, endpoint := &AtEndpoint{}, endpoint
		seen.Endpoints[name] = at
		run(func() { at.Busy = busy(plan, endpoint) })
		run(func() { at.Quiet = quiet(plan, endpoint) })
		run(func() { at.Stranger = stranger(plan, endpoint) })
	}
	run(func() { seen.Aging = aging(plan) })
	all.Wait()
	return seen
}
