//! The status page of the admin listener, as HTML and in a real browser.

use aws_lc_rs::digest::{SHA256, digest};
use previewgate::config::Mode;
use previewgate::simulator::{Ending, Fault, Misbehaviour, Stage};
use serde_json::json;

use crate::callouts::lenient;
use crate::observing::answered;
use crate::support::{
    API, Agent, AuditRecords, Browser, Lab, Request, Scripted, Setup, check_accessibility, eventually,
    eventually_async, id,
};

async fn call(lab: &Lab, agent: &Agent, control_id: i64, number: &str, name: &str) {
    let body = json!({"called": number, "callcontrolid": control_id});
    lab.send(&agent.callout_request(&body).id(name)).await;
}

async fn page(lab: &Lab, query: &str) -> String {
    let answer = lab.admin(&format!("/{query}")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/html; charset=utf-8"));
    answer.text()
}

/// The content of the only element of this name.
fn element<'a>(page: &'a str, name: &str) -> &'a str {
    let (_, after) = page.split_once(&format!("<{name}>")).unwrap();
    after.split_once(&format!("</{name}>")).unwrap().0
}

#[tokio::test]
async fn the_page_needs_nothing_else_and_allows_nothing_else() {
    let lab = Lab::start().await;
    let answer = lab.admin("/").await;
    let (policy, page) = (answer.header("content-security-policy").to_owned(), answer.text());
    for (directive, name) in [("style-src", "style"), ("script-src", "script")] {
        let hash = data_encoding::BASE64.encode(digest(&SHA256, element(&page, name).as_bytes()).as_ref());
        assert!(policy.contains(&format!("{directive} 'sha256-{hash}';")), "{policy}");
    }
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    // No resource but those in the page; no style or script in an attribute.
    for forbidden in ["src=", "style=", "onclick", "onload", "@import", "url("] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert_eq!(page.matches("<link").count(), 1);
    assert!(page.contains("<link rel=\"icon\" href=\"data:"));
    assert!(page.contains("No callout yet.") && page.contains("Everything is in order."), "{page}");
}

#[tokio::test]
async fn a_refused_callout_is_told_in_words() {
    let lab = lenient().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "88889039").await;
    call(&lab, &agent, 7, "77778028", "wrong").await;
    let page = page(&lab, "").await;
    for words in [
        "asked to call <b>******28</b> under control ID <b>7</b>",
        "Preview <b>7</b> with ******39",
        "the one that the callout names",
        "<b>Refused</b>: <code>number_not_in_preview</code>",
        "The upstream did not receive it.",
        "retcode <code>200-001</code>",
        "<span class=\"request\"><span class=\"prefix\">request </span><code title=\"wrong\">wrong</code></span>",
        // Of docs/operating.md.
        "<em>Check</em>: numbers are compared whole and exactly",
        "href=\"/?reason=number_not_in_preview#decisions\"",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
}

#[tokio::test]
async fn the_decisions_can_be_searched() {
    let lab = lenient().start().await;
    let (one, other) = (lab.agent(101).await, lab.agent(102).await);
    one.shown(7, "100").await;
    call(&lab, &one, 7, "100", "first").await;
    call(&lab, &other, 7, "100", "second").await;
    for (query, seen, unseen) in [
        ("?agent=101&id=&reason=", "<code>first</code>", "<code>second</code>"),
        ("?id=second", "<code>second</code>", "<code>first</code>"),
        ("?reason=ok", "<code>first</code>", "<code>second</code>"),
        ("?agent=103", "No decision of the last 1,000 matches.", "<code>first</code>"),
        ("?agent=7", "an agent ID is a plain decimal number", "<code>first</code>"),
    ] {
        let page = page(&lab, query).await;
        assert!(page.contains(seen) && !page.contains(unseen), "{query}: {page}");
    }
    assert!(page(&lab, "?reason=ok").await.contains("<option value=\"ok\" selected>"));
}

const HOSTILE: &str = "<img src=x onerror=document.title='broken'>\"'&";

/// What clients and the upstream choose is shown as text.
#[tokio::test]
async fn hostile_values_are_escaped() {
    let envelope = json!({"message": "", "retcode": HOSTILE, "result": HOSTILE}).to_string();
    let answer = answered(envelope.as_bytes(), &[("Content-Type", "application/json")]);
    let upstream = Scripted::start(&[&answer]).await;
    let lab = lenient().config(|config| config.validation.mode = Mode::Monitor).upstreams(&[upstream.address]);
    let lab = lab.start().await;
    let callout = Request::put(format!("{API}/voicecall/101/previewCallout")).guid("x").id("hostile");
    lab.send(&callout.json(&json!({"called": "12345<i", "callcontrolid": i64::MIN}))).await;
    let encoded: String = HOSTILE.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for query in [String::new(), format!("?id={encoded}&agent={encoded}"), format!("?{encoded}={encoded}")] {
        let page = page(&lab, &query).await;
        for raw in ["<img", "<i\"", "<i<", "'broken'>\""] {
            assert!(!page.contains(raw), "{raw} after {query}: {page}");
        }
    }
    let page = page(&lab, "").await;
    assert!(page.contains("*****&lt;i") && page.contains("retcode <code>&lt;img src=x"), "{page}");
    assert!(page.contains(&i64::MIN.to_string()));
    assert!(page.contains("MONITOR · ") && page.contains("No callout is refused."), "{page}");
}

#[tokio::test]
async fn what_needs_attention_is_at_the_top() {
    let lab = Setup::plain().upstreams(&["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()]);
    let lab = lab.start().await;
    lab.send(&Request::get(format!("{API}/x"))).await;
    lab.site.configure("log.level = 3");
    let reload = Request::new("POST", "/reload").header("Host", "localhost");
    let mut wire = crate::support::Wire::plain(lab.admin_address).await.unwrap();
    assert_eq!(wire.send(&reload).await.status, 409);
    let page = page(&lab, "").await;
    for words in ["No endpoint of CC-Gateway answers", "The last reload was refused", "log.level"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(!page.contains("Everything is in order."));
}

/// The endpoint is unproven until something reaches it; the snapshot has an age; the audit log has a head, a checkpoint and
/// open decisions.
#[tokio::test]
async fn the_status_page_shows_the_state_of_snapshot_and_audit_log() {
    let settings = "previews.snapshot = \"previews.snapshot\"\nupstream.probe.kind = \"none\"";
    let lab = Setup::plain().lenient().audited().settings(settings).start().await;
    let before = page(&lab, "").await;
    for words in ["<b>unproven</b> since", "no probe has reached it yet", "no open decisions", "<dd>saved <time"] {
        assert!(before.contains(words), "{words}: {before}");
    }
    let agent = lab.agent(101).await;
    agent.shown(7, "88889039").await;
    call(&lab, &agent, 7, "88889039", "valid").await;
    let after = page(&lab, "").await;
    for words in
        ["<b>in use</b> since", "no open decisions", "head at line <b>", "last checkpoint <time", "up to line "]
    {
        assert!(after.contains(words), "{words}: {after}");
    }
    assert!(!after.contains("<b>unproven</b>") && after.contains("Everything is in order."), "{after}");
    // The outcome is written a moment after the answer.
    let written = lab.site.path("audit");
    eventually_async("the page shows the end of the chain", async || {
        let head = format!("head at line <b>{}</b>", AuditRecords::read(&written).0.last().unwrap()["seq"]);
        page(&lab, "").await.contains(&head)
    })
    .await;

    // The platform takes this one and does not answer.
    let silence = Fault::Break { at: Stage::AfterRequest, how: Ending::Stall };
    lab.simulator.misbehave(Misbehaviour::new(silence).on("previewCallout"));
    let arrived = lab.simulator.callouts().len();
    let pending = tokio::spawn(lab.send(&agent.callout(7, "88889039")));
    eventually("the callout arrives", || lab.simulator.callouts().len() > arrived).await;
    let open = page(&lab, "").await;
    assert!(open.contains("1 open decision: sent, and the answer is not recorded yet"), "{open}");
    pending.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_log_that_cannot_be_written_is_at_the_top() {
    let lab = Setup::plain().lenient().audited().settings("audit.timeout = \"20s\"").start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "88889039").await;
    std::fs::remove_dir_all(lab.site.path("audit")).unwrap();
    assert_eq!(agent.call(7, "88889039").await.own().reason, "audit_unavailable");
    let page = page(&lab, "").await;
    for words in ["The audit log cannot be written", "callouts are refused as audit_unavailable"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(!page.contains("Everything is in order."));
}

/// As a person on call uses it: waits for a refusal to appear, searches, opens its story, all by keyboard.
#[tokio::test]
async fn a_person_on_call_finds_a_refusal_by_keyboard() {
    let Some(mut browser) = Browser::start().await else { return };
    let lab = lenient().audited().settings("previews.snapshot = \"previews.snapshot\"").start().await;
    let url = format!("http://{}/", lab.admin_address);
    let agent = lab.agent(101).await;
    agent.shown(7, "88889039").await;
    browser.appear(1280, false).await;
    browser.open(&url).await;
    browser.until("document.querySelector('#list').innerText.includes('No callout yet')").await;
    call(&lab, &agent, 7, "88889039", "valid").await;
    call(&lab, &agent, 7, "77778028", "wrong").await;
    // The page updates itself, without a click.
    browser.until("document.querySelectorAll('#list details').length === 2").await;
    browser.until("document.querySelector('#chart rect.rejected')").await;

    browser.evaluate("document.querySelector('[name=reason]').value = 'number_not_in_preview'").await;
    browser.evaluate("document.querySelector('[name=agent]').value = '101'").await;
    browser.evaluate("document.querySelector('[name=agent]').focus()").await;
    browser.press("Enter", 13).await;
    browser.until("location.search.includes('number_not_in_preview') && document.readyState === 'complete'").await;
    browser.until("document.querySelectorAll('#list details').length === 1").await;
    browser.evaluate("document.querySelector('#list summary').focus()").await;
    browser.press("Enter", 13).await;
    browser.until("document.querySelector('#list details').open").await;
    let story = browser.evaluate("document.querySelector('#list details').innerText").await;
    for words in ["asked to call ******28", "the one that the callout names", "Refused: number_not_in_preview"] {
        assert!(story.as_str().unwrap().contains(words), "{words}: {story}");
    }

    // The next update adds a decision. The open story stays open and keeps the focus.
    call(&lab, &agent, 7, "66667017", "third").await;
    browser.until("document.querySelectorAll('#list details').length === 2").await;
    let kept = "document.querySelectorAll('#list details')[1].open && \
                document.activeElement.closest('details') === document.querySelectorAll('#list details')[1]";
    browser.until(kept).await;

    for (name, width, dark) in [("light", 1280, false), ("dark", 1280, true), ("telephone", 360, true)] {
        browser.appear(width, dark).await;
        let overflow =
            browser.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
        assert_eq!(overflow, json!(0), "{name}");
        check_accessibility(&mut browser, name).await;
        browser.screenshot(name).await;
    }
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

/// Monitor mode and hostile values; and the page of a browser that runs no scripts.
#[tokio::test]
async fn a_browser_shows_hostile_values_as_text_in_monitor_mode_and_works_without_scripts() {
    let Some(mut browser) = Browser::start().await else { return };
    let lab = lenient().config(|config| config.validation.mode = Mode::Monitor).start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "88889039").await;
    for number in ["12345<i", "12345&<"] {
        call(&lab, &agent, 7, number, "hostile").await;
    }
    let encoded: String = HOSTILE.bytes().map(|byte| format!("%{byte:02X}")).collect();
    browser.open(&format!("http://{}/?id={encoded}", lab.admin_address)).await;
    let shown = browser.evaluate("document.querySelector('[name=id]').value").await;
    assert_eq!(shown, json!(HOSTILE));
    browser.open(&format!("http://{}/", lab.admin_address)).await;
    let numbers = browser.evaluate("[...document.querySelectorAll('.number')].map(n => n.innerText)").await;
    assert_eq!(numbers, json!(["*****&<", "*****<i"]));
    let title = browser.evaluate("document.title").await;
    assert!(title.as_str().unwrap().starts_with("MONITOR"), "{title}");
    let position = browser.evaluate("getComputedStyle(document.querySelector('.monitor')).position").await;
    assert_eq!(position, json!("sticky"));
    check_accessibility(&mut browser, "monitor").await;
    browser.screenshot("monitor").await;
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);

    browser.without_scripts().await;
    browser.open(&format!("http://{}/?agent=101", lab.admin_address)).await;
    let rows = browser.evaluate("document.querySelectorAll('#list details').length").await;
    assert_eq!(rows, json!(2));
    let pause = browser.evaluate("document.querySelector('#pause').hidden").await;
    assert_eq!(pause, json!(true));
    lab.simulator.release(id(101));
}
