//! How often a gateway asks Redis.

use std::sync::Arc;
use std::time::Duration;

use previewgate::preview::Clock;
use previewgate::simulator::{Simulator, SimulatorConfig};

use super::{FakeRedis, Kind, Link, SimulatedClock, start};

/// An answer of Redis takes 150 ms, and the gateway waits 200 ms: two round trips would be too long.
#[tokio::test(start_paused = true)]
async fn a_write_takes_one_round_trip() {
    let platform = Arc::new(Simulator::in_memory(SimulatorConfig { follow_ups: false, ..SimulatorConfig::default() }));
    let redis = FakeRedis::new(2);
    let clock = Arc::new(SimulatedClock::new(0));
    let gateways = [0, 1].map(|number| start(&platform, &redis, Kind::Strict, number, &clock));
    for number in [0, 1] {
        redis.link(number, Link::Up(Duration::from_millis(150)));
    }
    let _ = clock.now();
    let agent = gateways[0].agent_from_elsewhere(101);
    tokio::time::sleep(Duration::from_secs(3)).await;
    for control_id in 1..4 {
        let fetched = redis.executed("HMGET");
        agent.shown(control_id, "100").await;
        assert_eq!(redis.executed("HMGET"), fetched, "a write reads nothing");
        let failed = "previewgate_store_operations_total{operation=\"write\",outcome=\"timeout\"}";
        assert_eq!(gateways[0].metric(failed), 0.0);
        assert_eq!(agent.through(&gateways[1]).call(control_id, "100").await.verdict(), "ok");
        // The other gateway has heard of it, and writes in one round trip too.
        agent.through(&gateways[1]).released().await;
        assert_eq!(gateways[1].metric(failed), 0.0);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
