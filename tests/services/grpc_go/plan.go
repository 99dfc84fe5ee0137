package main

// What is asked for and what is told: the same names as in tests/journeys/test_clients.py, which says what each means.
// Bytes are base64 in JSON.

// Plan is what the program is to do.
type Plan struct {
	Endpoints   map[string]Endpoint
	Aging       Endpoint
	Calls       []Ask
	Crowds      []Crowd
	Overdue     float64
	Abandoned   int
	Quiet       float64
	Connections int
}

// Crowd is calls that are made at the same time, each of them so many times.
type Crowd struct {
	Calls []Ask
	Times int
}

// Endpoint is where a node listens; without an authority's file nothing is encrypted.
type Endpoint struct {
	Address     string
	Authority   string
	Certificate string
	Key         string
}

// Ask is one call.
type Ask struct {
	Name      string
	Method    string
	Request   []byte
	Streaming bool
	Gzip      bool
}

// Reply is what came of a call.
type Reply struct {
	Code    int      `json:"code"`
	Message string   `json:"message"`
	Details []byte   `json:"details"`
	Answers [][]byte `json:"answers"`
}

// Seen is what the program tells.
type Seen struct {
	Endpoints map[string]*AtEndpoint `json:"endpoints"`
	Aging     Aged                   `json:"aging"`
}

// AtEndpoint is what was seen at one endpoint.
type AtEndpoint struct {
	Busy     Busy  `json:"busy"`
	Quiet    Quiet `json:"quiet"`
	Stranger Reply `json:"stranger"`
}

// Busy is what was seen on one channel on which much was asked.
type Busy struct {
	Calls       map[string]Reply `json:"calls"`
	Crowds      [][][]Reply      `json:"crowds"`
	Overdue     Reply            `json:"overdue"`
	Abandoned   map[int]int      `json:"abandoned"`
	Again       Reply            `json:"again"`
	Connections int              `json:"connections"`
}

// Quiet is what was seen on one channel on which nothing was asked for a while.
type Quiet struct {
	Before      Reply `json:"before"`
	After       Reply `json:"after"`
	Connections int   `json:"connections"`
}

// Aged is what was seen on one channel whose connections were ended one after another.
type Aged struct {
	Asked       int     `json:"asked"`
	Failed      []Reply `json:"failed"`
	Connections int     `json:"connections"`
}
