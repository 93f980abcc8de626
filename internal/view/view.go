// Package view shows a session as the Sessions dialect has it: one form, whoever answers with a session. It holds no state.
package view

import (
	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// Session shows a live session of the application by its row and its record, or, without a row, one that is not live by its record
// alone. The record may be nil beside a row, when its details cannot be read. An open record without a row is a session that nobody
// holds at the moment: it reads as disconnected, and has not ended.
func Session(app tenant.Application, row *registry.Row, rec *store.Record, now api.Millis, details bool) api.Session {
	if rec == nil {
		rec = &store.Record{}
	}
	s := api.Session{
		AgentID: app.ID, OrganizationID: app.Organization,
		Hostname: orNull(rec.Hostname), UserAgent: orNull(rec.UserAgent), ClientInfo: rec.ClientInfo,
	}
	d := api.Details{}
	if row != nil {
		s.ID, s.Status, s.DerivedStatus = row.Session, api.StatusActive, row.Derived(now, app.IdleAfter)
		s.CreatedAt = api.Timestamp(row.CreatedAt)
		s.TokenExpiresAt, s.LastActiveAt = row.TokenExpiresAt.Timestamp(), row.LastActiveAt.Timestamp()
		d = api.Details{ServerID: row.ServerID, IPAddress: row.IP, Login: orNull(row.Login), License: orNull(row.License),
			ClientID: row.ClientID, Authorized: row.Authorized}
		s.Name = nameOf(rec.Name, row.Login, row.License, row.ClientID, rec.Hostname)
	} else {
		s.ID, s.Status, s.DerivedStatus = rec.ID, api.StatusDisconnected, api.DerivedDisconnected
		s.CreatedAt, s.DisconnectedAt = api.Timestamp(rec.CreatedAt), rec.EndedAt.Timestamp()
		s.TokenExpiresAt, s.LastActiveAt = rec.TokenExpiresAt.Timestamp(), rec.LastActiveAt.Timestamp()
		d = api.Details{ServerID: rec.ServerID, IPAddress: rec.IP, Login: orNull(rec.Login), License: orNull(rec.License),
			ClientID: rec.ClientID, Authorized: rec.Authorized, EndReason: rec.EndReason, EndedBy: rec.EndedBy, Reason: rec.EndText}
		s.Name = nameOf(rec.Name, rec.Login, rec.License, rec.ClientID, rec.Hostname)
	}
	s.ConnectedAt = api.Millis(s.CreatedAt).Timestamp()
	if details {
		s.Details = &d
	}
	return s
}

// nameOf composes a name for a session whose client gave none: who, and on what.
func nameOf(name, login, license, clientID, hostname string) string {
	if name != "" {
		return name
	}
	who := clientID
	if license != "" {
		who = license
	}
	if login != "" {
		who = login
	}
	if hostname != "" {
		who += " on " + hostname
	}
	return who
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
