#!/usr/bin/env python3
"""Verifies audit logs as docs/audit.md describes them: verify.py PUBLIC_KEY_FILE DIR...   (exit code 0: sound, 1: broken)

Needs nothing but Python and the `openssl` program. Leaves out anchors, pruned segments, and what is missing without a
sign of tampering; of the rule it checks that each forwarded callout follows from what its agent was shown."""
import base64, glob, hashlib, json, os, re, subprocess, sys, tempfile

def sha(data): return hashlib.sha256(data).digest()
def check(good, place, message):
    if not good: sys.exit(f"broken: {place}: {message}")

def root(leaves):  # RFC 6962, section 2.1
    if len(leaves) == 1: return leaves[0]
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return sha(b"\1" + root(leaves[:left]) + root(leaves[left:]))

def is_signed(text, blob, key):  # blob: 4 bytes that name the key, and the Ed25519 signature
    with tempfile.TemporaryDirectory() as d:
        files = {"key": bytes.fromhex("302a300506032b6570032100") + key, "text": text, "sig": blob[4:]}
        for name, data in files.items(): open(f"{d}/{name}", "wb").write(data)
        verify = f"openssl pkeyutl -verify -pubin -keyform DER -inkey {d}/key -rawin -in {d}/text -sigfile {d}/sig"
        return subprocess.run(verify.split(), capture_output=True).returncode == 0

def read_segment(path, seq, head, end, key):
    """Yields the records; `end` is what the next segment says about this one, if there is one."""
    name, leaves, state, data, at = os.path.basename(path)[:-6], [], "opening", open(path, "rb").read(), 0
    while (end is None or seq < end["seq"]) and (stop := data.find(b"\n", at)) >= 0:
        line, at, seq = data[at:stop], stop + 1, seq + 1
        place = f"{name}.jsonl seq {seq}"
        try: record = json.loads(line)
        except ValueError: check(False, place, "no JSON")
        check(isinstance(record, dict) and record.get("seq") == seq and record.get("prev") == head.hex(), place, "not chained")
        kind = record["kind"]
        check((kind == "open") == (not leaves) and (kind != "open" or record["segment"] == name), place, "wrong segment")
        check(state != "complete" and (state != "closing" or kind == "checkpoint"), place, "after the end")
        check(state != "opening" or kind in ("open", "config", "checkpoint"), place, "before the first checkpoint")
        if kind == "checkpoint":
            text, _, signature = record["note"].partition("\n\n")
            want = [f"previewgate-audit/{name.split('.')[1]}/{name}", str(len(leaves)), base64.b64encode(root(leaves)).decode(),
                    f"head {head.hex()}", f"seq {seq - 1}", f"time {record['at']}"]
            check(text.split("\n") == want, place, "the checkpoint is about other lines")
            check(is_signed(f"{text}\n".encode(), base64.b64decode(signature.split()[2]), key), place, "not signed")
            whole = {"seq": seq, "prev": head.hex(), "at": record["at"], "kind": kind, "note": record["note"]}
            check(line == json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode(), place, "another spelling")
        state = {"close": "closing", "checkpoint": "complete" if state == "closing" else "sealed"}.get(kind, state)
        head = sha(line)
        leaves.append(sha(b"\0" + head))
        yield place, record, head
    rest, tail = data[at:], (end or {}).get("tail", {"bytes": 0, "sha256": sha(b"").hex()})
    if end: check((len(rest), sha(rest).hex()) == (tail["bytes"], tail["sha256"]), name, "other bytes at the end")
    if end: check((seq, head.hex(), state == "complete") == (end["seq"], end["head"], end["closed"]), name, "another end")
    check(end or state != "complete" or not rest, name, "bytes after the end")

def main(key_file, *directories):
    key, shown = base64.b64decode(open(key_file).read().split("+", 2)[2])[1:], {}
    order = lambda path: (lambda day, chain, number, _: (chain, day, int(number)))(*os.path.basename(path).split("."))
    for path in (p for d in directories for p in glob.glob(f"{d}/*.jsonl")):
        check(re.fullmatch(r"\d{4}-\d\d-\d\d\.[0-9a-f]{8}\.\d{3,}\.jsonl", os.path.basename(path)), path, "no segment")
    paths = sorted((p for d in directories for p in glob.glob(f"{d}/*.jsonl") if b"\n" in open(p, "rb").read()), key=order)
    opens = [json.loads(open(p, "rb").readline()) for p in paths]
    seq, head, chain, forwarded = 0, bytes(32), None, []
    for number, (path, first) in enumerate(zip(paths, opens)):
        if order(path)[0] != chain: seq, head, chain, before = 0, bytes(32), order(path)[0], None
        check((first.get("before") or {}).get("segment") == before, path, "another segment comes before it")
        following = number + 1 < len(paths) and order(paths[number + 1])[0] == chain
        for place, record, head in read_segment(path, seq, head, opens[number + 1].get("before") if following else None, key):
            seq, before = record["seq"], os.path.basename(path)[:-6]
            if record["kind"] == "shown": shown[record["id"]] = record
            if record["kind"] == "decision" and record["verdict"] == "forwarded": forwarded.append((place, record))
    for place, call in forwarded:
        mine = [preview for preview in call["previews"] if preview["control_id"] == call["control_id"]]
        lists = lambda s, c: s["agent"] == call["agent"] and s["key"] == c["key"] and c["hmac"] in [n["hmac"] for n in s["numbers"]]
        seen = [shown[i] for preview in mine for i in preview["shown"] if i in shown]
        young = [preview for preview in mine if preview["number_age_ms"] <= call["ttl_ms"]]
        check(young and any(lists(s, c) for s in seen for c in call["called"]["hmacs"]), place, "was not shown")
    print(f"sound: {len(paths)} segments, {len(forwarded)} forwarded callouts")

main(*sys.argv[1:])
