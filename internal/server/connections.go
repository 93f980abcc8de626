package server

import (
	"context"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// connectionsInterval is how often nodes bring each other's last connections of applications level.
const connectionsInterval = 2 * time.Second

// levelConnections keeps lastConnectionTime alike on every node and in the database: the maximum ever seen, which no restart and no
// death of a node lowers (page 2). Rows alone do not: a session may come and go while a node cannot hear of it, and one whose record
// was lost with its node is known to those alone that had its row.
func (s *Server) levelConnections(ctx context.Context) error {
	var before map[api.ApplicationID]api.Millis // as was seen here one interval ago
	return every(ctx, connectionsInterval, func() { before = s.levelOnce(ctx, before) })
}

// levelOnce returns what is seen here. What was seen before and is still not in the database is written: what is newer is on its way
// with its record.
func (s *Server) levelOnce(ctx context.Context, before map[api.ApplicationID]api.Millis) map[api.ApplicationID]api.Millis {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	stored, err := s.db.Config().Connections(ctx, nil)
	if err == nil {
		missed := map[api.ApplicationID]api.Millis{}
		for app, at := range before {
			if stored[app] < at {
				missed[app] = at
			}
		}
		if len(missed) > 0 {
			stored, err = s.db.Config().Connections(ctx, missed)
		}
	}
	if err != nil && ctx.Err() == nil {
		s.log.Debug("last connections are not level; it is tried again", "err", err)
	}
	s.rows.Connected(stored)
	return s.rows.LastConnections()
}
