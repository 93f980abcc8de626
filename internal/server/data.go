package server

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// AdminTokenFile is the name of the admin token's file in the data directory, mode 0600, so that the command line on the same
// machine just works.
const AdminTokenFile = "admin-token"

// minAdminToken is the length below which a configured admin token is refused: it can be tried without limit from outside.
const minAdminToken = 24

// incarnationFile has the name and the incarnation of the last node on the data directory.
const incarnationFile = "incarnation"

// earlierLife returns the last incarnation of the node on the data directory, 0 when there was none, or it cannot be read.
func earlierLife(dir, node string) (incarnation int64) {
	b, err := os.ReadFile(filepath.Join(dir, incarnationFile))
	if err != nil {
		return 0
	}
	name, number, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	if incarnation, err = strconv.ParseInt(number, 10, 64); err != nil || name != node {
		return 0
	}
	return incarnation
}

func rememberLife(dir, node string, incarnation int64) error {
	return writePrivate(filepath.Join(dir, incarnationFile), fmt.Sprintf("%s %d\n", node, incarnation))
}

func databaseFile(data string) string { return filepath.Join(data, "rollcall.db") }

// lockData creates the data directory when it is missing and takes it for this process; the lock ends with the process, however
// it ends.
func lockData(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w; give a directory that can be written with --data", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w; give a directory that can be written with --data", err)
	}
	if err := tryLock(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s is used by another rollcall process (%w); stop it, or give another directory with --data", dir, err)
	}
	return func() { _ = f.Close() }, nil
}

// adminToken returns the configured token, else the one in the data directory, which is made when it is missing.
func adminToken(configured, dir string) (string, error) {
	if configured != "" {
		if len(configured) < minAdminToken {
			return "", fmt.Errorf("must have at least %d characters", minAdminToken)
		}
		return configured, nil
	}
	path := filepath.Join(dir, AdminTokenFile)
	b, err := os.ReadFile(path)
	switch {
	case err == nil:
		if err := keepPrivate(path); err != nil {
			return "", err
		}
		token := strings.TrimSpace(string(b))
		if len(token) < minAdminToken {
			return "", fmt.Errorf("%s holds fewer than %d characters; delete it to have one generated", path, minAdminToken)
		}
		return token, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	token := "rcadm_" + rand.Text() + rand.Text()
	return token, writePrivate(path, token+"\n")
}

// keepPrivate takes from others what a copy or a restore may have given them.
func keepPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	return os.Chmod(path, 0o600)
}

// writePrivate writes the whole file or none: a disk that fills in between leaves nothing that the next start would stumble over.
func writePrivate(path, content string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
