package input

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/rollcallhq/rollcall/api"
)

// ReadBody reads the JSON object that a request must carry, of at most limit bytes. The errors are *api.Error: unsupported_media_type,
// body_too_large, and validation_error for a body that is no such object.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int) (*Object, error) {
	if err := checkMediaType(r.Header); err != nil {
		return nil, err
	}
	tooLarge := api.Errorf(api.CodeBodyTooLarge, "the body must be at most %d bytes", limit)
	if r.ContentLength > int64(limit) {
		return nil, tooLarge
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, tooLarge
		}
		return nil, api.Errorf(api.CodeValidation, "the body could not be read to its end")
	}
	o, err := ParseBody(data)
	if err != nil {
		return nil, api.Errorf(api.CodeValidation, "the body must be a JSON object: %s", err.Error())
	}
	return o, nil
}

func checkMediaType(h http.Header) error {
	kind, args, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset, given := args["charset"]
	switch {
	case len(h.Values("Content-Type")) > 1, err != nil, kind != "application/json", given && !strings.EqualFold(charset, "utf-8"):
		return api.Errorf(api.CodeUnsupportedMediaType, "Content-Type must be application/json, in UTF-8")
	case h.Get("Content-Encoding") != "" && !strings.EqualFold(h.Get("Content-Encoding"), "identity"):
		return api.Errorf(api.CodeUnsupportedMediaType, "Content-Encoding is not accepted")
	}
	return nil
}
