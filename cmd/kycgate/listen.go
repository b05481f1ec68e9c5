package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// addressTaken adds the next step to the error of a listener whose address is in use. It names the setting
// of the address: public if that is where the trouble is, otherwise admin.
func addressTaken(err error, listen, public, admin string) error {
	var op *net.OpError
	if !errors.Is(err, syscall.EADDRINUSE) || !errors.As(err, &op) || op.Addr == nil {
		return err
	}
	setting := admin
	_, wanted, _ := net.SplitHostPort(listen)
	if _, taken, _ := net.SplitHostPort(op.Addr.String()); taken == wanted {
		setting = public
	}
	return fmt.Errorf("the address %s is taken by another process: choose a free one with %s", op.Addr, setting)
}

// fixPort replaces port 0 by a free port, for when the address must be known before it is listened on.
// Somebody else could take the port in between; then listening fails and says so.
func fixPort(ctx context.Context, address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port != "0" {
		return address, nil // what is wrong with it, Validate tells better
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err := errors.Join(err, l.Close()); err != nil {
		return "", err
	}
	return net.JoinHostPort(host, port), nil
}

// reachable is where a client on this machine finds a listener: one on every address is on loopback too.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
