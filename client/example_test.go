package client_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// A desktop program holds a session while it runs. Its backend, which knows the user, gets the tokens.
func ExampleHold() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	err := client.Hold(ctx, client.SessionConfig{
		URL:      "https://rollcall.example.com",
		Token:    func(ctx context.Context) (string, error) { return tokenFromBackend(ctx) },
		ClientID: "client-001",
		Hostname: "mbp-14",
		OnEvent: func(e client.Event) {
			switch e := e.(type) {
			case api.Welcome:
				log.Print("connected as ", e.SessionID)
			case api.Disconnect:
				log.Print("disconnected: ", e.Reason)
			}
		},
	})
	if err != nil { // the server does not want this client back
		log.Fatal(err)
	}
}

func tokenFromBackend(context.Context) (string, error) { return "", nil }

// A backend ends the sessions of a customer who reported a stolen laptop.
func ExampleManage_Sessions() {
	ctx := context.Background()
	m, err := client.NewManage(client.ManageConfig{URL: "https://rollcall.example.com", Key: "rck_…"})
	if err != nil {
		log.Fatal(err)
	}
	app := api.MustID[api.Application]("550e8400-e29b-41d4-a716-446655440000")
	for s, err := range m.Sessions(ctx, app, client.SessionQuery{Details: true}) {
		if err != nil {
			log.Fatal(err)
		}
		if s.Hostname != nil && *s.Hostname == "stolen-laptop" {
			if _, err := m.Disconnect(ctx, app, s.ID, "reported stolen"); err != nil {
				log.Fatal(err)
			}
		}
	}
}

// A console shows the newest ten sessions and keeps them true.
func ExampleManage_Watch() {
	ctx, stop := context.WithTimeout(context.Background(), time.Hour)
	defer stop()
	m, err := client.NewManage(client.ManageConfig{URL: "https://rollcall.example.com", Key: "rck_…"})
	if err != nil {
		log.Fatal(err)
	}
	w, err := m.Watch(ctx, client.Query{Application: "123456789", Totals: true})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	for {
		step, err := w.Next(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d live, %d matching\n", step.Page.Total, step.Page.FilteredTotal)
		for _, row := range step.Page.Items {
			fmt.Println(row.ServerID, row.IPAddress, row.ClientID)
		}
	}
}
