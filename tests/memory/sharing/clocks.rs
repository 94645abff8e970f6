//! Clocks that are wrong at the start, and only Redis knows.

use std::sync::Arc;
use std::time::Duration;

use previewgate::simulator::{Simulator, SimulatorConfig};
use tokio::time::sleep;

use super::{FakeRedis, Kind, Link, SimulatedClock, start};

const HOUR: i64 = 3_600_000;

#[tokio::test(start_paused = true)]
async fn what_is_shown_before_redis_was_reached_has_its_true_age_afterwards() {
    for wrong in [HOUR, -HOUR, 20_000, -20_000] {
        let platform =
            Arc::new(Simulator::in_memory(SimulatorConfig { follow_ups: false, ..SimulatorConfig::default() }));
        let redis = FakeRedis::new(2);
        redis.link(0, Link::Cut);
        let clocks = [wrong, 0].map(|ahead| Arc::new(SimulatedClock::new(ahead)));
        let gateways = [0, 1].map(|number| start(&platform, &redis, Kind::Available, number, &clocks[number]));
        let agent = gateways[0].agent_from_elsewhere(101);
        // The default of `start_timeout`: callouts do not wait any more.
        sleep(Duration::from_secs(6)).await;
        agent.shown(7, "100").await;
        assert_eq!(agent.call(7, "100").await.verdict(), "ok", "{wrong}");
        redis.link(0, Link::Up(Duration::from_millis(1)));
        sleep(Duration::from_secs(3)).await;
        for gateway in &gateways {
            assert_eq!(agent.through(gateway).call(7, "100").await.verdict(), "ok", "{wrong}");
        }
        // It expires when it is as old as any other: after 30 minutes, the default of `previews.ttl`.
        sleep(Duration::from_secs(30 * 60 - 15)).await;
        assert_eq!(agent.through(&gateways[1]).call(7, "100").await.verdict(), "ok", "{wrong}");
        sleep(Duration::from_secs(15)).await;
        for gateway in &gateways {
            assert_eq!(agent.through(gateway).call(7, "100").await.verdict(), "preview_expired", "{wrong}");
        }
    }
}
