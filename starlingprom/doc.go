// Package starlingprom shows a member of a Starling cluster to Prometheus.
//
//	metrics := starlingprom.New(c, &starlingprom.Options{Maps: []starlingprom.Map{flags}})
//	prometheus.MustRegister(metrics)
//	prices, err := starling.NewChannel(c, "prices", starlingprom.Handler(metrics, "prices", show), nil)
//
// A [Collector] pulls: it reads the member's Stats, Health and Keyring when it is scraped, and costs nothing in between. The core knows
// nothing of it. [Handler], for the channels where you want it, notes how old messages are when they are handled, as a native histogram.
//
// # Metrics
//
// Names begin with Options.Namespace, "starling" if it is empty. Counters start at starling.New, and end in _total. README.md lists them.
// alerts.yml holds rules for Prometheus, dashboard.json a dashboard for Grafana, both for the namespace "starling".
//
// # Coming from Alertmanager's cluster package
//
// Four metrics mean what Alertmanager's mean, and have their names but for the namespace: cluster_members, cluster_messages_queued,
// cluster_peer_info and peer_position. With the namespace "alertmanager" dashboards that show those go on working. Its other metrics have no
// equal here, since they count what memberlist does with its own messages, and are not imitated.
package starlingprom
