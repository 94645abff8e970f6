import java.io.ByteArrayOutputStream;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.text.Normalizer;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Everything that some layer might make of a path. */
final class Paths {
    private static final Pattern CALLOUT = Pattern.compile("(?:^|/)voicecall/([^/]+)/previewcallout$");
    private static final Pattern CANCEL = Pattern.compile("(?:^|/)voicecall/([^/]+)/cancelpreviewcallout$");
    private static final Pattern SIGN_IN = Pattern.compile("(?:^|/)onlineagent/([^/]+)(?:/(?:forcelogin|loginex))?$");
    private static final Pattern SIGN_OUT = Pattern.compile("(?:^|/)onlineagent/([^/]+)/(?:logout|forcelogout)$");
    private static final Pattern FORCED = Pattern.compile("(?:^|/)qualitycontrol/[^/]+/forcelogout/([^/]+)$");
    private static final Pattern POLL = Pattern.compile("(?:^|/)agentevent/([^/]+)$");

    private static final Pattern PARAMETERS = Pattern.compile(";[^/]*");
    private static final Pattern END = Pattern.compile("[^\\p{L}\\p{N}]+$");
    private static final Pattern SUFFIX = Pattern.compile("\\.[a-z]+$");
    private static final Pattern NOT_ASCII = Pattern.compile("[^\\p{ASCII}]");
    private static final Pattern INVISIBLE = Pattern.compile("[\\p{Cntrl}\\p{Cf}\\s\"']");
    private static final Pattern LAST_SLASHES = Pattern.compile("/+$");
    private static final Pattern SPACED_SLASH = Pattern.compile("[\\s\\p{Cntrl}]*/[\\s\\p{Cntrl}]*");

    /** What a path can mean is found out once, however often it is sent. */
    private static final Map<List<String>, Paths> KNOWN = new ConcurrentHashMap<>();

    private final Set<String> readings = new LinkedHashSet<>();

    /** Takes the spellings under which the layers see the path: raw, decoded, from a rewriting header. */
    static Paths of(List<String> spellings) {
        return KNOWN.computeIfAbsent(spellings, Paths::new);
    }

    private Paths(List<String> spellings) {
        Set<String> decoded = new LinkedHashSet<>();
        ArrayDeque<String> open = new ArrayDeque<>();
        for (String spelling : spellings) {
            if (spelling != null && decoded.add(spelling)) open.add(spelling);
        }
        while (!open.isEmpty() && decoded.size() < 64) {
            String text = open.remove();
            if (text.indexOf('%') < 0) continue;
            for (Charset charset : new Charset[] {StandardCharsets.UTF_8, StandardCharsets.ISO_8859_1}) {
                String once = decode(text, charset, false);
                if (decoded.add(once)) open.add(once);
                String overlong = decode(text, charset, true);
                if (decoded.add(overlong)) open.add(overlong);
            }
        }
        for (String text : decoded) normalise(text);
    }

    Set<String> callouts() { return agents(CALLOUT); }
    Set<String> cancels() { return agents(CANCEL); }
    Set<String> signIns() { return agents(SIGN_IN); }
    Set<String> signOuts() { return agents(SIGN_OUT); }
    Set<String> forcedSignOuts() { return agents(FORCED); }
    Set<String> polls() { return agents(POLL); }

    private Set<String> agents(Pattern pattern) {
        Set<String> agents = new LinkedHashSet<>();
        for (String reading : readings) {
            Matcher matcher = pattern.matcher(reading);
            if (matcher.find()) agents.add(agent(matcher.group(1)));
        }
        return agents;
    }

    /** As a forgiving number parser reads it. */
    private static String agent(String text) {
        String plain = text.trim();
        try {
            return Long.decode(plain.replaceFirst("^([+-]?)0+(?=[0-9])", "$1")).toString();
        } catch (NumberFormatException e) {
            try {
                return String.valueOf((long) Double.parseDouble(plain));
            } catch (NumberFormatException f) {
                return plain;
            }
        }
    }

    private void normalise(String text) {
        List<String> ends = new ArrayList<>();
        ends.add(text);
        for (char end : new char[] {'?', '#', '\0'}) {
            int at = text.indexOf(end);
            if (at >= 0) ends.add(text.substring(0, at));
        }
        for (String end : ends) {
            for (String slashes : new String[] {end, end.replace('\\', '/')}) {
                // Parameters are dropped before or after the dot segments are folded, or stay.
                read(slashes);
                read(without(PARAMETERS, slashes));
                read(without(PARAMETERS, fold(slashes)));
            }
        }
    }

    private void read(String path) {
        String folded = fold(path);
        for (String plain : new String[] {folded, Normalizer.normalize(folded, Normalizer.Form.NFKC)}) {
            String lower = plain.toUpperCase(Locale.ROOT).toLowerCase(Locale.ROOT).replace("i\u0307", "i");
            String trimmed = without(END, lower);
            readings.add(trimmed);
            readings.add(without(SUFFIX, trimmed));
            // A decoder that drops what it cannot decode, and a filter that lets ASCII through only.
            readings.add(fold(without(NOT_ASCII, lower)));
            readings.add(without(LAST_SLASHES, without(INVISIBLE, lower)));
            // Segments as a router trims them.
            readings.add(SPACED_SLASH.matcher(trimmed).replaceAll("/"));
        }
    }

    private static String without(Pattern pattern, String text) {
        return pattern.matcher(text).replaceAll("");
    }

    /** Without empty and dot segments. */
    private static String fold(String path) {
        List<String> kept = new ArrayList<>();
        for (String segment : path.split("/")) {
            if (segment.equals("..")) {
                if (!kept.isEmpty()) kept.remove(kept.size() - 1);
            } else if (!segment.isEmpty() && !segment.equals(".")) {
                kept.add(segment);
            }
        }
        return "/" + String.join("/", kept);
    }

    private static String decode(String text, Charset charset, boolean overlong) {
        byte[] in = text.getBytes(charset);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        for (int i = 0; i < in.length; i++) {
            if (in[i] == '%' && i + 5 < in.length && (in[i + 1] == 'u' || in[i + 1] == 'U') && hex(in, i + 2, 4) >= 0) {
                byte[] character = String.valueOf((char) hex(in, i + 2, 4)).getBytes(charset);
                out.write(character, 0, character.length);
                i += 5;
            } else if (in[i] == '%' && i + 2 < in.length && hex(in, i + 1, 2) >= 0) {
                out.write(hex(in, i + 1, 2));
                i += 2;
            } else {
                out.write(in[i]);
            }
        }
        return overlong ? forgiving(out.toByteArray()) : new String(out.toByteArray(), charset);
    }

    /** UTF-8 with overlong forms read as the character they stand for. */
    private static String forgiving(byte[] in) {
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < in.length; i++) {
            int b = in[i] & 0xff;
            int more = b >= 0xf0 ? 3 : b >= 0xe0 ? 2 : b >= 0xc0 ? 1 : 0;
            int code = more == 0 ? b : b & (0x3f >> more);
            for (int k = 0; k < more && i + 1 < in.length; k++) code = code << 6 | in[++i] & 0x3f;
            text.appendCodePoint(code & 0xfffff);
        }
        return text.toString();
    }

    private static int hex(byte[] in, int at, int digits) {
        int value = 0;
        for (int i = at; i < at + digits; i++) {
            int digit = Character.digit(in[i], 16);
            if (digit < 0) return -1;
            value = value << 4 | digit;
        }
        return value;
    }
}
