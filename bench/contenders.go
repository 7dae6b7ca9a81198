package main

import (
	"context"

	"github.com/starling-go/starling"
)

// contenders are the systems that are measured beside each other, by the names that tables and charts have for them. Each runs as its own
// documentation or program configures it, with all members in this process, on loopback.
var contenders = map[string]starter{
	starlingName:   startStarling,
	tutorialName:   startTutorial,
	alertmanagers:  startAlertmanager,
	serfName:       startSerf,
	redisName:      startRedis,
	reliablyInTurn: startInTurn,
}

const (
	starlingName   = "starling"
	tutorialName   = "tutorial"
	alertmanagers  = "alertmanager"
	serfName       = "serf"
	redisName      = "redis"
	reliablyInTurn = "in turn"
)

func startStarling(ctx context.Context, o load, l *ledger) (system, error) {
	o.linger = starling.DefaultLinger
	return starlings(ctx, o, l)
}
