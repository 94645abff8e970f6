//! An application that behaves cannot tell that the gateway is there.

use crate::support::{Lab, Setup};

#[tokio::test]
async fn a_preview_is_shown_and_called() {
    for lab in [Lab::start().await, Setup::encrypted().start().await, Setup::mutual().start().await] {
        let agent = lab.agent(101).await;
        agent.shown(11776, "05712345").await;
        let answer = agent.call(11776, "05712345").await.passed();
        assert_eq!(answer.retcode(), "0");
        assert_eq!(lab.simulator.callouts().len(), 1);
    }
}
