package tenant

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// maxBootstrap bounds a bootstrap file, in bytes.
const maxBootstrap = 4 << 20

// Bootstrap creates or updates what the YAML describes (page 2, "Declarative start"), in one transaction, idempotently. It never
// clears a revocation, pause or archive: a revoked key and an archived application stay as they are. The error names the place in
// the file, and its line.
//
// What the file gives is set; what it leaves out stays as it is, and has the default of creation when there is nothing yet, so
// that a restart undoes no change that the file does not speak of. A plan and token settings are set whole. Organizations need id
// and name, applications id and name, keys name and either `key`, the plaintext, or `publicId` and `keySha256`, the SHA-256 of
// the plaintext's secret part (its last 48 characters) in hex, with an optional `lastFour` to show. A key's `applications` is
// `all` or a list of ids, its `expiresAt` a time (RFC 3339) or `never`. An application may have strictRevocation besides the
// fields of page 2.
func (d *Directory) Bootstrap(ctx context.Context, yaml io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(yaml, maxBootstrap+1))
	if err != nil {
		return fmt.Errorf("cannot read the bootstrap file: %w", err)
	}
	if len(text) > maxBootstrap {
		return &fault{must: "must be at most 4 MiB"}
	}
	file, err := readBootstrap(text)
	if err != nil {
		return err
	}
	ctx = WithOrigin(ctx, Origin{Actor: api.AuditActor{Type: api.ActorBootstrap}})
	return d.write(ctx, func(e *edit) error {
		for _, org := range file {
			if err := d.bootOrganization(e, org); err != nil {
				return err
			}
		}
		return nil
	})
}

// The parts of a bootstrap file, each with its place.
type (
	bootOrganization struct {
		at           value
		in           OrganizationInput
		applications []bootApplication
		keys         []bootKey
	}
	bootApplication struct {
		at value
		in ApplicationInput
	}
	bootKey struct {
		at       value
		in       KeyInput
		publicID string
		hash     [sha256.Size]byte
		lastFour string
	}
)

func readBootstrap(text []byte) ([]bootOrganization, error) {
	root, err := readYAML(text)
	if err != nil {
		return nil, err
	}
	r := reader{root.doc, map[string]string{}}
	var file []bootOrganization
	if list, ok := r.required(root, root.fields("organizations"), "organizations"); ok {
		for _, item := range list.items() {
			file = append(file, r.organization(item))
		}
	}
	if r.doc.fault != nil {
		return nil, r.doc.fault
	}
	return file, nil
}

// reader reads a bootstrap file and checks it without the database.
type reader struct {
	doc  *document
	seen map[string]string // place of every unique value
}

// required returns a field that must be there.
func (r *reader) required(of value, fields map[string]value, name string) (value, bool) {
	field, ok := fields[name]
	if !ok {
		r.doc.fail(join(of.place, name), "is required")
	}
	return field, ok
}

// once fails when the file has the value at two places.
func (r *reader) once(at value, kind, unique string) {
	if first, twice := r.seen[kind+unique]; twice {
		at.fail("is the same as %s", first)
	}
	r.seen[kind+unique] = at.place
}

func (r *reader) check(at value, err error) {
	var wrong *fault
	if errors.As(at.misplaced(err), &wrong) && r.doc.fault == nil {
		r.doc.fault = wrong
	}
}

func (r *reader) organization(at value) bootOrganization {
	fields := at.fields("id", "name", "plan", "applications", "apiKeys")
	org := bootOrganization{at: at}
	if v, ok := r.required(at, fields, "id"); ok {
		org.in.ID = new(idOf[api.Organization](v))
		r.once(v, "organization", org.in.ID.String())
	}
	if v, ok := r.required(at, fields, "name"); ok {
		org.in.Name = new(v.text())
	}
	if v, ok := fields["plan"]; ok {
		org.in.Plan = new(readPlan(v))
	}
	r.check(at, org.in.check())
	if v, ok := fields["applications"]; ok {
		for _, item := range v.items() {
			org.applications = append(org.applications, r.application(item))
		}
	}
	if v, ok := fields["apiKeys"]; ok {
		for _, item := range v.items() {
			org.keys = append(org.keys, r.key(item))
		}
	}
	return org
}

func readPlan(at value) PlanInput {
	var plan PlanInput
	fields := at.fields("name", "maxAuthorizedSessions", "liveSessionsOverview", "historyRetention")
	if v, ok := fields["name"]; ok {
		plan.Name = v.text()
	}
	if v, ok := fields["maxAuthorizedSessions"]; ok {
		plan.MaxAuthorizedSessions = new(v.integer())
	}
	if v, ok := fields["liveSessionsOverview"]; ok {
		plan.LiveSessionsOverview = new(v.boolean())
	}
	if v, ok := fields["historyRetention"]; ok {
		plan.HistoryRetention = new(v.duration())
	}
	return plan
}

func (r *reader) application(at value) bootApplication {
	fields := at.fields("id", "number", "name", "publishableKey", "idleAfter", "allowedOrigins", "strictRevocation", "tokens")
	app := bootApplication{at: at}
	in := &app.in
	if v, ok := r.required(at, fields, "id"); ok {
		in.ID = new(idOf[api.Application](v))
		r.once(v, "application", in.ID.String())
	}
	if v, ok := r.required(at, fields, "name"); ok {
		in.Name = new(v.text())
	}
	if v, ok := fields["number"]; ok {
		in.Number = new(v.figures())
		r.once(v, "number", *in.Number)
	}
	if v, ok := fields["publishableKey"]; ok {
		in.PublishableKey = new(v.text())
		r.once(v, "publishableKey", *in.PublishableKey)
	}
	if v, ok := fields["idleAfter"]; ok {
		in.IdleAfter = new(v.duration())
	}
	if v, ok := fields["strictRevocation"]; ok {
		in.StrictRevocation = new(v.boolean())
	}
	if v, ok := fields["allowedOrigins"]; ok {
		in.AllowedOrigins = new([]string{})
		for _, item := range v.items() {
			*in.AllowedOrigins = append(*in.AllowedOrigins, item.text())
		}
	}
	if v, ok := fields["tokens"]; ok {
		settings := v.fields("hs256Secret", "jwksUrl", "issuer", "audience")
		in.Tokens = &TokensInput{HS256Secret: settings["hs256Secret"].optional(), JWKSURL: settings["jwksUrl"].optional(),
			Issuer: settings["issuer"].optional(), Audience: settings["audience"].optional()}
	}
	r.check(at, in.check())
	return app
}

func (r *reader) key(at value) bootKey {
	fields := at.fields("name", "key", "publicId", "keySha256", "lastFour", "scopes", "applications", "expiresAt")
	key := bootKey{at: at}
	if v, ok := r.required(at, fields, "name"); ok {
		key.in.Name = new(v.text())
	}
	r.secret(&key, fields)
	if v, ok := fields["scopes"]; ok {
		key.in.Scopes = new([]api.Scope{})
		for _, item := range v.items() {
			*key.in.Scopes = append(*key.in.Scopes, api.Scope(item.text()))
		}
	}
	if v, ok := fields["applications"]; ok {
		if v.isWord() {
			if v.text() != "all" {
				v.fail("must be all or a list of application ids")
			}
			key.in.AllApplications = new(true)
		} else {
			key.in.Applications = new([]api.ApplicationID{})
			for _, item := range v.items() {
				*key.in.Applications = append(*key.in.Applications, idOf[api.Application](item))
			}
		}
	}
	if v, ok := fields["expiresAt"]; ok {
		key.in.ExpiresAt = new(api.Millis)
		if v.text() != "never" {
			*key.in.ExpiresAt = v.time()
		}
	}
	r.check(at, key.in.check())
	return key
}

// secret reads a key's plaintext, or its public id and hash.
func (r *reader) secret(key *bootKey, fields map[string]value) {
	plain, hasPlain := fields["key"]
	hash, hasHash := fields["keySha256"]
	at := plain
	switch {
	case hasPlain == hasHash:
		key.at.fail("must have key or keySha256, not both")
		return
	case hasPlain:
		for _, name := range []string{"publicId", "lastFour"} {
			if v, ok := fields[name]; ok {
				v.fail("must not be given with key, which has it")
			}
		}
		publicID, secret, ok := parseKey(plain.text())
		if !ok {
			plain.fail("must be rck_, 16 characters of a-z and 0-9, _, and 48 of A-Z, a-z and 0-9")
			return
		}
		key.publicID, key.hash, key.lastFour = publicID, sha256.Sum256([]byte(secret)), secret[len(secret)-4:]
	default:
		sum, err := hex.DecodeString(hash.figures())
		if err != nil || len(sum) != sha256.Size {
			hash.fail("must be the SHA-256 of the key's secret part, in 64 hexadecimal digits")
			return
		}
		copy(key.hash[:], sum)
		var ok bool
		if at, ok = r.required(key.at, fields, "publicId"); !ok {
			return
		}
		if key.publicID = at.figures(); !publicIDForm.MatchString(key.publicID) {
			at.fail("must be 16 characters of a-z and 0-9")
		}
		if v, ok := fields["lastFour"]; ok {
			if key.lastFour = v.figures(); !lastFourForm.MatchString(key.lastFour) {
				v.fail("must be the last four characters of the key")
			}
		}
	}
	r.once(at, "key", key.publicID)
}

func (d *Directory) bootOrganization(e *edit, org bootOrganization) error {
	id := *org.in.ID
	old, err := e.Organization(id)
	if err != nil {
		return err
	}
	row := newOrganization(id, e.Now())
	if old != nil {
		row = *old
	}
	org.in.apply(&row)
	if err := e.putOrganization(old, row); err != nil {
		return err
	}
	for _, app := range org.applications {
		if err := d.bootApplication(e, id, app); err != nil {
			return err
		}
	}
	for _, key := range org.keys {
		if err := bootAPIKey(e, id, key); err != nil {
			return err
		}
	}
	return nil
}

func (d *Directory) bootApplication(e *edit, org api.OrganizationID, app bootApplication) error {
	old, err := e.Application(*app.in.ID)
	if err != nil {
		return err
	}
	if old != nil && old.Organization != org {
		return app.at.misplaced(problemf("id", "is of an application of another organization"))
	}
	if old != nil && old.State == api.ApplicationArchived {
		return nil
	}
	row := d.newApplication(*app.in.ID, org, e.Now())
	if old != nil {
		row = *old
	}
	app.in.apply(&row, "")
	err = e.putApplication(old, row)
	if errors.Is(err, store.ErrConflict) {
		return app.at.doc.faultAt(app.at.place, "the number or the publishableKey is taken by another application")
	}
	return err
}

func bootAPIKey(e *edit, org api.OrganizationID, key bootKey) error {
	old, err := e.Key(key.publicID)
	if err != nil {
		return err
	}
	if old != nil && old.Organization != org {
		return key.at.doc.faultAt(key.at.place, "the public id is of a key of another organization")
	}
	if old != nil && old.RevokedAt != 0 {
		return nil
	}
	if err := key.in.checkApplications(e, org); err != nil {
		return key.at.misplaced(err)
	}
	row := store.Key{PublicID: key.publicID, Organization: org, AllApplications: true, CreatedAt: e.Now()}
	if old != nil {
		row = cloneKey(old)
	}
	key.in.apply(&row)
	row.SecretHash = key.hash
	if key.lastFour != "" {
		row.LastFour = key.lastFour
	}
	return e.putKey(old, row)
}
