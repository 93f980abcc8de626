package tenant

import "github.com/rollcallhq/rollcall/api"

// The management API validates before it looks at scopes (page 2, "Check order"), so it asks for the checks of a write apart from
// the write, which makes them again.

// Check returns the validation_error that creating or patching an application with in would give; a missing name is not one.
func (in ApplicationInput) Check() error { return asAPI(in.check()) }

// Check is the same for an organization.
func (in OrganizationInput) Check() error { return asAPI(in.check()) }

// Check is the same for an API key; whose applications it lists is judged by the write.
func (in KeyInput) Check() error { return asAPI(in.check()) }

// CheckToken returns the validation_error that IssueToken would give.
func CheckToken(in api.TokenInput) error { return asAPI(checkTokenInput(in)) }
