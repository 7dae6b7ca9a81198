package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// sockets is the least transport that memberlist needs and that does not waste: packets are read into one buffer and
// handed on in a slice of their exact size.
type sockets struct {
	udp     *net.UDPConn
	tcp     *net.TCPListener
	packets chan *memberlist.Packet
	streams chan net.Conn
	closed  chan struct{}
	close   func() error
	wg      sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*sockets)(nil)

const (
	bindAttempts = 10
	socketBuffer = 4 << 20
)

// listen opens both sockets on one port of loopback that the system picks.
func listen() (*sockets, error) {
	var last error
	for range bindAttempts {
		tcp, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, err
		}
		port := tcp.Addr().(*net.TCPAddr).Port
		udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			// The port is taken for UDP. Another attempt gets another one.
			last = errors.Join(err, tcp.Close())
			continue
		}
		_ = udp.SetReadBuffer(socketBuffer) // what the system grants must do
		s := &sockets{
			udp: udp, tcp: tcp,
			packets: make(chan *memberlist.Packet, 256), streams: make(chan net.Conn), closed: make(chan struct{}),
		}
		s.close = sync.OnceValue(func() error {
			close(s.closed)
			err := errors.Join(tcp.Close(), udp.Close())
			s.wg.Wait()
			return err
		})
		s.wg.Go(s.readPackets)
		s.wg.Go(s.acceptStreams)
		return s, nil
	}
	return nil, last
}

func (s *sockets) port() int { return s.tcp.Addr().(*net.TCPAddr).Port }

func (s *sockets) readPackets() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		p := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: net.UDPAddrFromAddrPort(from), Timestamp: time.Now()}
		select {
		case s.packets <- p:
		case <-s.closed:
			return
		}
	}
}

func (s *sockets) acceptStreams() {
	for {
		conn, err := s.tcp.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		select {
		case s.streams <- conn:
		case <-s.closed:
			_ = conn.Close()
		}
	}
}

// FinalAdvertiseAddr implements memberlist.Transport, as do those below.
func (s *sockets) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IPv4(127, 0, 0, 1), s.port(), nil
}

func (s *sockets) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("write packet: %w", err)
	}
	_, err = s.udp.WriteToUDPAddrPort(b, to)
	return time.Now(), err
}

func (s *sockets) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return s.WriteTo(b, a.Addr)
}

func (s *sockets) PacketCh() <-chan *memberlist.Packet { return s.packets }
func (s *sockets) StreamCh() <-chan net.Conn           { return s.streams }

func (s *sockets) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp4", addr, timeout)
}

func (s *sockets) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return s.DialTimeout(a.Addr, timeout)
}

func (s *sockets) Shutdown() error { return s.close() }
