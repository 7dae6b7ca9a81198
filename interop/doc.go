// Package interop holds tests alone: they run the cluster code of a real Prometheus Alertmanager beside Starling.
package interop
