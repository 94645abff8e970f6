//! A Redis that has lost writes, and no connection breaks.

use std::sync::Arc;
use std::time::Duration;

use previewgate::simulator::{Simulator, SimulatorConfig};
use tokio::time::sleep;

use super::{FakeRedis, Kind, SimulatedClock, start};

/// Redis goes back by the last heartbeat of one gateway only. The one that wrote after that must learn of it too.
#[tokio::test(start_paused = true)]
async fn every_gateway_learns_that_writes_were_lost_although_one_alone_misses_its_heartbeat() {
    const LOSSES: &str = "previewgate_store_data_losses_total";
    let platform = Arc::new(Simulator::in_memory(SimulatorConfig { follow_ups: false, ..SimulatorConfig::default() }));
    let redis = FakeRedis::new(3);
    let clock = Arc::new(SimulatedClock::new(0));
    let mut gateways = Vec::new();
    for number in 0..2 {
        gateways.push(start(&platform, &redis, Kind::Strict, number, &clock));
        // So that they beat half a second apart.
        sleep(Duration::from_millis(500)).await;
    }
    let agent = gateways[1].agent_from_elsewhere(101);
    agent.shown(7, "100").await;
    sleep(Duration::from_millis(750)).await;
    redis.replicate();
    // The first gateway beats, and the second one writes.
    sleep(Duration::from_millis(300)).await;
    agent.released().await;
    redis.fail_over();
    sleep(Duration::from_secs(3)).await;
    for gateway in &gateways {
        assert_eq!(gateway.metric(LOSSES), 1.0);
    }
    // A third one knows nothing but what Redis has.
    let third = start(&platform, &redis, Kind::Strict, 2, &clock);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(agent.through(&third).call(7, "100").await.verdict(), "unknown_preview");
    assert_eq!(third.metric(LOSSES), 0.0);
}
