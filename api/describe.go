package api

import _ "embed"

// OpenAPI is the description of every HTTP route (OpenAPI 3.1), served at /openapi.yaml. It must not be written to.
//
//go:embed openapi.yaml
var OpenAPI []byte

// AsyncAPI is the description of both WebSocket protocols (AsyncAPI 3.0), served at /asyncapi.yaml. It must not be written to.
//
//go:embed asyncapi.yaml
var AsyncAPI []byte
