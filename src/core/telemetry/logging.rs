//! The `tracing` subscriber of one gateway: it turns events into lines.
//!
//! It is installed per thread or passed as a [`Dispatch`], never globally, so that two gateways in one process have
//! separate logs. The gateway uses no spans: one line holds everything about a request.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

use super::line::{Record as LineRecord, append_event, append_record, drop_notice};
use super::line_style::LineStyle;
use super::writer::{LineClass, LogGuard, LogWriter, Sink, WriterLimits};

/// The log of one gateway.
#[derive(Debug)]
pub struct Logging {
    /// Receives events: install it with `tracing::dispatcher::set_default` on each thread of the gateway.
    pub dispatch: Dispatch,
    /// Changes the level while the gateway runs.
    pub level: LevelHandle,
    /// Has the counters, and can flush.
    pub writer: LogWriter,
    /// Writes the remaining lines when dropped: keep it until the end of the process.
    pub guard: LogGuard,
}

impl Logging {
    /// Starts a log that writes events of `level` and more severe ones to `sink`.
    ///
    /// Decisions and access lines are written at every level: see [`write_record`]. Events of libraries are never written: they may contain
    /// headers or bodies.
    ///
    /// # Errors
    /// The system refused the writer's thread.
    pub fn start(style: impl Into<LineStyle>, level: Level, sink: Sink) -> io::Result<Self> {
        let style = style.into();
        let notice = Box::new(move |dropped| drop_notice(style, SystemTime::now(), dropped));
        let (writer, guard) = LogWriter::start(sink, WriterLimits::default(), notice)?;
        let level = LevelHandle::new(level);
        let subscriber = LineSubscriber { style, level: level.clone(), writer: writer.clone(), now: SystemTime::now };
        Ok(Self { dispatch: Dispatch::new(subscriber), level, writer, guard })
    }
}

/// The level of a running log.
#[derive(Clone)]
pub struct LevelHandle(Arc<AtomicUsize>);

/// In the order of severity; a [`LevelHandle`] holds a position in it.
const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

impl LevelHandle {
    fn new(level: Level) -> Self {
        let handle = Self(Arc::new(AtomicUsize::new(0)));
        handle.store(level);
        handle
    }

    /// Writes events of `level` and more severe ones from now on.
    pub fn set(&self, level: Level) {
        self.store(level);
        // Each call site caches whether its events are enabled.
        tracing::callsite::rebuild_interest_cache();
    }

    /// The current level.
    pub fn current(&self) -> Level {
        LEVELS.get(self.0.load(Ordering::Relaxed)).copied().unwrap_or(Level::TRACE)
    }

    fn store(&self, level: Level) {
        let position = LEVELS.iter().position(|known| *known == level).unwrap_or(LEVELS.len());
        self.0.store(position, Ordering::Relaxed);
    }
}

impl fmt::Debug for LevelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LevelHandle({})", self.current())
    }
}

/// A plain subscriber, not a layer over a registry: without spans there is nothing to register.
struct LineSubscriber {
    style: LineStyle,
    level: LevelHandle,
    writer: LogWriter,
    now: fn() -> SystemTime,
}

impl Subscriber for LineSubscriber {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Called once for each call site, and again when the level changes. A disabled event then costs one load.
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && is_ours(metadata.target()) && *metadata.level() <= self.level.current()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.level.current()))
    }

    fn event(&self, event: &Event<'_>) {
        with_scratch(|line| {
            append_event(line, self.style, (self.now)(), event);
            self.writer.write(LineClass::Message, line);
        });
    }

    // Spans are never enabled, so none of these is called for one of ours.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Writes the line of a request to the log of the present thread, whatever its level: a higher log level must not hide
/// compliance records.
pub(super) fn write_record(record: &impl LineRecord) {
    tracing::dispatcher::get_default(|dispatch| {
        if let Some(log) = dispatch.downcast_ref::<LineSubscriber>() {
            with_scratch(|line| {
                append_record(line, log.style, (log.now)(), record);
                log.writer.write(record.class(), line);
            });
        }
    });
}

/// Matches the three crates and their modules, but not another crate whose name begins with `previewgate_`.
fn is_ours(target: &str) -> bool {
    let name = target.split_once("::").map_or(target, |(name, _)| name);
    matches!(name, "previewgate" | "previewgate_core" | "previewgate_io")
}

/// Passes an empty buffer to `use_it`. The buffer keeps its memory from line to line.
fn with_scratch(use_it: impl FnOnce(&mut Vec<u8>)) {
    /// Bytes that a thread keeps. Longer lines are rare.
    const KEPT: usize = 16 << 10;
    thread_local!(static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) });
    // The buffer is taken, not borrowed: a field whose formatting logs an event gets another buffer. A thread that is
    // ending has no buffer any more.
    let mut line = SCRATCH.try_with(Cell::take).unwrap_or_default();
    line.clear();
    use_it(&mut line);
    if line.capacity() <= KEPT {
        let _ = SCRATCH.try_with(|scratch| scratch.set(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use crate::telemetry::LineKind;
    use crate::telemetry::line::{FieldSink, MAX_VALUE};
    use crate::telemetry::sanitized;
    use crate::telemetry::testing::CapturedLog;
    use std::time::{Duration, UNIX_EPOCH};
    use tracing::dispatcher::with_default;
    use tracing::{debug, error, info, trace, warn};

    fn at_a_fixed_time() -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_795_339_237_123)
    }

    /// Runs `log` and returns the text that it logged.
    fn logged(style: impl Into<LineStyle>, level: Level, log: impl FnOnce(&LevelHandle)) -> String {
        let style = style.into();
        let captured = CapturedLog::default();
        let notice = Box::new(move |dropped| drop_notice(style, at_a_fixed_time(), dropped));
        let limits = WriterLimits { exit: Duration::from_secs(20), ..WriterLimits::default() };
        let (writer, guard) = LogWriter::start(Box::new(captured.clone()), limits, notice).unwrap();
        let level = LevelHandle::new(level);
        let subscriber = LineSubscriber { style, level: level.clone(), writer, now: at_a_fixed_time };
        with_default(&Dispatch::new(subscriber), || log(&level));
        drop(guard);
        captured.text()
    }

    fn parsed(line: &str) -> serde_json::Map<String, serde_json::Value> {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    const HOSTILE: &str = "x\"}\n{\"level\":\"ERROR\"}\r\t\\ \u{1b}[31m \u{9b} \u{2028} \u{202e} \0 ключ=значение";

    #[test]
    fn json_snapshot() {
        let line = logged(LogFormat::Json, Level::INFO, |_| {
            let (absent, present): (Option<u64>, _) = (None, Some(7_u64));
            info!(agent_id = 101, ratio = 0.125, ok = true, absent, present, word = "two words", "listening on {}", 1);
        });
        assert_eq!(
            line,
            concat!(
                r#"{"ts":"2026-11-22T09:20:37.123Z","level":"INFO","kind":"operation","schema":1,"message":"listening on 1","agent_id":101,"#,
                r#""ratio":0.125,"ok":true,"present":7,"word":"two words"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn text_snapshot() {
        let lines = logged(LogFormat::Text, Level::DEBUG, |_| {
            info!(
                agent_id = 101,
                share = 0.5,
                ok = true,
                word = "one",
                words = "two words",
                empty = "",
                "it is \"on\""
            );
            error!(path = r"a\b", "broken\nline");
            warn!(first = 1, message = "recorded late", last = -2);
            debug!("bare");
        });
        assert_eq!(
            lines,
            [
                r#"2026-11-22T09:20:37.123Z INFO  it is "on" agent_id=101 share=0.5 ok=true word=one words="two words" empty="""#,
                r#"2026-11-22T09:20:37.123Z ERROR broken\nline path="a\\b""#,
                "2026-11-22T09:20:37.123Z WARN  recorded late first=1 last=-2",
                "2026-11-22T09:20:37.123Z DEBUG bare",
                ""
            ]
            .join("\n")
        );
    }

    #[test]
    fn a_terminal_shows_the_time_alone_and_colours_if_it_has_them() {
        let say = |_: &LevelHandle| warn!(agent_id = 101, "late");
        assert_eq!(logged(LineStyle::Terminal, Level::INFO, say), "09:20:37.123 WARN  late agent_id=101\n");
        let coloured = "09:20:37.123 \u{1b}[33mWARN\u{1b}[0m  late agent_id=101\n";
        assert_eq!(logged(LineStyle::ColourTerminal, Level::INFO, say), coloured);
    }

    #[test]
    fn hostile_values_stay_in_their_field() {
        let json = logged(LogFormat::Json, Level::INFO, |_| {
            info!(text = HOSTILE, display = %HOSTILE, debug = ?HOSTILE, nan = f64::NAN, "{HOSTILE}");
        });
        assert_eq!(json.matches('\n').count(), 1);
        let line = parsed(&json);
        for field in ["message", "text", "display"] {
            assert_eq!(line[field], HOSTILE, "{field}");
        }
        assert_eq!((&line["level"], &line["nan"]), (&"INFO".into(), &serde_json::Value::Null));
        let text = logged(LogFormat::Text, Level::INFO, |_| info!(text = HOSTILE, "{HOSTILE}"));
        for log in [json, text] {
            let log = log.strip_suffix('\n').unwrap();
            assert!(!log.contains(|c: char| c.is_control() || c == '\u{2028}' || c == '\u{202e}'), "{log}");
        }
    }

    #[test]
    fn a_value_cannot_fill_the_log() {
        let huge = HOSTILE.repeat(20_000);
        for format in [LogFormat::Json, LogFormat::Text] {
            let log = logged(format, Level::INFO, |_| {
                info!(text = huge, debug = ?huge, chosen = %sanitized(&huge, 50), after = 1, "{huge}");
            });
            assert_eq!(log.matches('\n').count(), 1);
            assert!(log.len() < 4 * MAX_VALUE, "{}", log.len());
            assert!(log.contains('…') && log.contains("after"));
            if format == LogFormat::Json {
                assert_eq!(parsed(&log)["after"], 1);
            }
        }
    }

    #[test]
    fn events_of_other_crates_are_not_logged() {
        let log = logged(LogFormat::Json, Level::TRACE, |_| {
            error!(target: "hyper::proto", guid = "SECRET-1", "SECRET-2");
            error!(target: "previewgate_plugin", "SECRET-3");
            let _span = tracing::info_span!("request", guid = "SECRET-4").entered();
            trace!(target: "previewgate", "ours");
            trace!("ours too");
        });
        assert_eq!(log.lines().count(), 2, "{log}");
        assert!(!log.contains("SECRET"));
    }

    struct Decision;

    impl LineRecord for Decision {
        fn kind(&self) -> LineKind {
            LineKind::Decision
        }

        fn class(&self) -> LineClass {
            LineClass::Call
        }

        fn write(&self, fields: &mut impl FieldSink) {
            fields.string("message", "decision");
        }
    }

    #[test]
    fn the_level_can_change_and_never_hides_a_decision() {
        let log = logged(LogFormat::Text, Level::ERROR, |level| {
            let say = |word| {
                warn!("{word}");
                write_record(&Decision);
            };
            say("hidden");
            level.set(Level::WARN);
            say("shown");
            level.set(Level::ERROR);
            say("hidden");
            assert_eq!(level.current(), Level::ERROR);
        });
        let words: Vec<_> = log.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
        assert_eq!(words, ["decision", "shown", "decision", "decision"]);
    }

    #[test]
    fn two_gateways_in_one_process_keep_their_logs_apart() {
        let inner = Cell::new(String::new());
        let outer = logged(LogFormat::Text, Level::INFO, |_| {
            inner.set(logged(LogFormat::Json, Level::ERROR, |_| info!("for the other")));
            info!("for this one");
        });
        assert_eq!((inner.take(), outer.lines().count()), (String::new(), 1));
    }

    #[test]
    fn the_notice_of_drops_is_a_line_like_any_other() {
        let text = drop_notice(LineStyle::Text, at_a_fixed_time(), 5);
        assert_eq!(text, b"2026-11-22T09:20:37.123Z WARN  5 log lines dropped dropped=5\n");
        let json = String::from_utf8(drop_notice(LineStyle::Json, at_a_fixed_time(), 5)).unwrap();
        assert_eq!(parsed(&json)["dropped"], 5);
    }

    #[test]
    fn formatting_that_logs_leaves_its_own_line_intact() {
        struct Chatty;
        impl fmt::Display for Chatty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                info!("from within");
                f.write_str("value")
            }
        }
        let log = logged(LogFormat::Json, Level::INFO, |_| info!(chatty = %Chatty, "outer"));
        assert_eq!(parsed(log.lines().last().unwrap())["chatty"], "value");
    }

    #[test]
    fn a_clock_before_1970_does_not_panic() {
        let early = UNIX_EPOCH - Duration::from_secs(1);
        assert!(drop_notice(LineStyle::Text, early, 1).starts_with(b"1970-01-01T00:00:00.000Z"));
    }
}
