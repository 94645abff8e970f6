//! The requests: hostile ones, all of which ask for a call that no preview allows, and those of behaving clients.
//!
//! The corpus is deterministic. Every hostile request carries a number that no agent was shown, or that another agent was
//! shown. If it arrives as a `previewCallout` in any reading, the gateway was bypassed. Every behaving request must arrive
//! unchanged.

mod attacks;
mod behaving;
mod bodies;
mod framing;
mod methods;
mod mixtures;
mod odd_forms;
mod paths;
mod pushes;
mod readings;
mod sessions;

/// This agent polls before the corpus is sent, and is shown 710101 and 710102 under 1010.
pub(crate) const ATTACKER: u32 = 101;
/// This agent polls too, and is shown 710201 and 710202 under 1020.
pub(crate) const VICTIM: u32 = 102;

const CALLOUT: &str = "/agentgateway/resource/voicecall/101/previewCallout";
const VALID: &str = r#"{"called":"710101","callcontrolid":1010}"#;
const JSON: &str = "Content-Type: application/json; charset=UTF-8\r\n";

/// One case.
pub(crate) struct Case {
    /// Its number, in `X-Case` of all its requests.
    pub(crate) number: usize,
    /// The kind of trick, or of client.
    pub(crate) class: &'static str,
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
    /// The application may wait for more bytes, so that a missing answer proves nothing.
    pub(crate) may_hang: bool,
    /// The answer has no body.
    pub(crate) to_head: bool,
    /// The expected arrival of a behaving request; `None` for a hostile one.
    pub(crate) expected: Option<Expected>,
    /// For requests that end a preview in an odd way: the agent, who polls before.
    pub(crate) ends_session_of: Option<u32>,
}

/// How a behaving request arrives.
pub(crate) struct Expected {
    /// The method.
    pub(crate) method: String,
    /// The target.
    pub(crate) target: String,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Case {
    /// Whether an arrival of this as a callout is a bypass.
    pub(crate) fn is_hostile(&self) -> bool {
        self.expected.is_none()
    }

    /// Whether the trick, if there is one, is in how a body is read.
    pub(crate) fn reads_bodies(&self) -> bool {
        self.class.starts_with("body: ") || matches!(self.class, "callout" | "session: two readings")
    }

    /// Whether an application's charset can matter to it: each one that the tests set reads ASCII as ASCII, so that it takes
    /// other bytes, or escapes that stand for bytes.
    pub(crate) fn depends_on_charset(&self) -> bool {
        let plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t') && *byte != b'%';
        self.reads_bodies() && !self.bytes.iter().all(plain)
    }

    /// Whether a target in it can be read in another way if encoded slashes and backslashes stay as they are.
    pub(crate) fn has_encoded_target(&self) -> bool {
        !self.reads_bodies() && self.bytes.iter().any(|byte| matches!(byte, b'%' | b'\\'))
    }
}

/// All cases.
pub(crate) fn corpus() -> Vec<Case> {
    let mut corpus = Corpus { first: 0, cases: vec![], random: Random(0x70_72_65_76) };
    corpus.paths();
    corpus.methods();
    corpus.framing();
    corpus.bodies();
    corpus.queries();
    corpus.identities();
    corpus.sessions();
    corpus.combinations(700);
    corpus.mutations(700);
    corpus.behaving_callouts();
    corpus.behaving_sessions();
    corpus.behaving_others();
    corpus.swallowed_backslashes();
    corpus.misread_sessions();
    corpus.rewriting_bytes();
    corpus.suffixes();
    corpus.many_parameters();
    corpus.behaving_oddly();
    corpus.escapes_that_escape_nothing();
    corpus.broken_sequences();
    corpus.hidden_charsets();
    corpus.texts_within_texts(300);
    corpus.cancellations_with_two_readings();
    corpus.behaving_readings();
    corpus.further_attacks();
    corpus.odd_forms();
    corpus.cases
}

/// Pushes that do not come from CC-Gateway, each with the callout that it is to make valid. Numbered from `first`;
/// `stolen` is a push address of an agent who is neither of the two.
pub(crate) fn forged_pushes(first: usize, stolen: &str) -> Vec<Case> {
    let mut corpus = Corpus { first, cases: vec![], random: Random(0x70_75_73_68) };
    corpus.forged_pushes(stolen);
    corpus.cases
}

/// The valid callout of an agent who has polled.
pub(crate) fn valid_callout(agent: u32, case: &str) -> Vec<u8> {
    let body = format!(r#"{{"called":"7{agent}01","callcontrolid":{}}}"#, u64::from(agent) * 10);
    request("PUT", &format!("/agentgateway/resource/voicecall/{agent}/previewCallout"), case, JSON, body.as_bytes())
}

/// A request as a client would write it.
pub(crate) fn request(method: &str, target: &str, case: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() && matches!(method, "GET" | "DELETE" | "OPTIONS" | "HEAD") {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: cc.example:8043\r\nGuid: 8f1c.AgentGateway1\r\nX-Case: {case}\r\n\
         {fields}{length}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// SplitMix64: the same corpus every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

struct Corpus {
    /// The number of the first case.
    first: usize,
    cases: Vec<Case>,
    random: Random,
}

impl Corpus {
    fn number(&self) -> usize {
        self.first + self.cases.len()
    }

    /// A number that no agent was shown.
    fn unshown(&self) -> String {
        format!("666{:06}", self.number())
    }

    fn unshown_body(&self) -> String {
        format!(r#"{{"called":"{}","callcontrolid":1010}}"#, self.unshown())
    }

    fn hostile(&mut self, class: &'static str, bytes: Vec<u8>) -> &mut Case {
        let number = self.number();
        let case =
            Case { number, class, bytes, may_hang: false, to_head: false, expected: None, ends_session_of: None };
        self.cases.push(case);
        self.cases.last_mut().unwrap()
    }

    fn hostile_path(&mut self, class: &'static str, target: &str) {
        let bytes = request("PUT", target, &self.number().to_string(), JSON, self.unshown_body().as_bytes());
        // Some servers do not take this for a target, and may wait for more bytes.
        self.hostile(class, bytes).may_hang = target.contains([' ', '\r', '\n']);
    }

    fn hostile_body(&mut self, class: &'static str, fields: &str, body: &[u8]) {
        let bytes = request("PUT", CALLOUT, &self.number().to_string(), fields, body);
        self.hostile(class, bytes);
    }

    /// The callout that is to be smuggled past, as a request of its own.
    fn inner(&self) -> Vec<u8> {
        let case = format!("{}-i", self.number());
        request("PUT", CALLOUT, &case, JSON, self.unshown_body().as_bytes())
    }

    fn framed(&mut self, class: &'static str, bytes: Vec<u8>) {
        self.hostile(class, bytes).may_hang = true;
    }
}

/// The same request with its body in chunks.
fn chunked(request: &[u8], size: usize) -> Vec<u8> {
    let end = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let (head, body) = (std::str::from_utf8(&request[..end]).unwrap(), &request[end + 4..]);
    let lines = head.split("\r\n").filter(|line| !line.starts_with("Content-Length"));
    let mut bytes = lines.collect::<Vec<_>>().join("\r\n").into_bytes();
    bytes.extend_from_slice(b"\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}
