package mcp_test

import (
	"context"
	"log"
	"net/http"
	"os"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/mcp"
)

// A server written with the official Go SDK, whose clients are listed in Rollcall.
func ExampleTracker_Middleware() {
	server := sdk.NewServer(&sdk.Implementation{Name: "weather", Version: "1.0"}, nil)
	handler := sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server },
		&sdk.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true})

	tracker, err := mcp.New(mcp.Config{
		URL: "https://rollcall.example.com", Key: os.Getenv("ROLLCALL_KEY"), Server: "weather",
		Application: api.MustID[api.Application]("550e8400-e29b-41d4-a716-446655440000"),
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = tracker.Run(context.Background()) }()
	http.Handle("/mcp", tracker.Middleware(handler))
	log.Fatal(http.ListenAndServe("127.0.0.1:3000", nil))
}
