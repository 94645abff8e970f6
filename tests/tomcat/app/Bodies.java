import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonFactoryBuilder;
import com.fasterxml.jackson.core.json.JsonReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.MapperFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonParser;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.StringReader;
import java.io.UnsupportedEncodingException;
import java.net.URLDecoder;
import java.nio.ByteBuffer;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.text.Normalizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.regex.Pattern;
import java.util.zip.GZIPInputStream;
import java.util.zip.InflaterInputStream;

/** Everything that some mapper might make of a message body: what is called, and under which control ID. */
final class Bodies {
    /** One reading: {called, callcontrolid}; either may be null. The key of the map is its own text, the value says who read it. */
    final Map<List<String>, String> readings = new LinkedHashMap<>();

    public static final class Fields {
        public String called;
        public Long callcontrolid;
    }

    public static final class IntFields {
        public String called;
        public int callcontrolid;
    }

    private static final JsonMapper STRICT =
        JsonMapper.builder().disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES).build();
    private static final JsonMapper LENIENT = lenient();
    private static final Gson GSON = new GsonBuilder().setLenient().create();
    private static final Gson DEFAULT_GSON = new Gson();
    /** Every charset of the JVM that reads the structure of JSON as ASCII does. */
    private static final Set<Charset> LIKE_ASCII = likeAscii();

    /** Many cases send the same body, and each case is sent in several ways: what a body can mean is found out once. */
    private static final Map<List<Object>, Bodies> KNOWN = new ConcurrentHashMap<>();
    private static final Pattern NO_LETTER = Pattern.compile("[^\\p{L}\\p{N}]");
    private static final Pattern INDEX = Pattern.compile("\\[.*?\\]$");

    private static JsonMapper lenient() {
        JsonFactoryBuilder factory = new JsonFactoryBuilder();
        for (JsonReadFeature feature : JsonReadFeature.values()) factory.enable(feature);
        JsonFactory built = factory.build();
        return JsonMapper.builder(built)
            .enable(MapperFeature.ACCEPT_CASE_INSENSITIVE_PROPERTIES)
            .enable(DeserializationFeature.UNWRAP_SINGLE_VALUE_ARRAYS)
            .enable(DeserializationFeature.ACCEPT_EMPTY_STRING_AS_NULL_OBJECT)
            .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
            .build();
    }

    private static Set<Charset> likeAscii() {
        byte[] structure = "{\"a0\":[1],'b':2}".getBytes(StandardCharsets.US_ASCII);
        Set<Charset> charsets = new LinkedHashSet<>();
        for (Charset charset : Charset.availableCharsets().values()) {
            if (new String(structure, charset).equals(new String(structure, StandardCharsets.US_ASCII))) charsets.add(charset);
        }
        return charsets;
    }

    /**
     * Reads `body`, sent with these header fields, together with the parameters of the query. `encoding` is the charset
     * that the container reads with, null if it knows none.
     */
    static Bodies of(byte[] body, String contentType, String encoding, String query) {
        return KNOWN.computeIfAbsent(Arrays.asList(ByteBuffer.wrap(body), contentType, encoding, query),
            unknown -> new Bodies(body, contentType, encoding, query));
    }

    private Bodies(byte[] body, String contentType, String encoding, String query) {
        Set<String> texts = new LinkedHashSet<>();
        // As an application does that forgets the charset: under the JVM's default.
        texts.add(new String(body));
        attempt("reader", () -> texts.add(asReader(body, encoding)));
        for (byte[] bytes : new byte[][] {body, unpack(body, true), unpack(body, false)}) {
            if (bytes == null) continue;
            jackson(bytes);
            for (Charset charset : charsets(contentType)) texts.add(new String(bytes, charset));
        }
        for (Charset charset : LIKE_ASCII) texts.add(new String(body, charset));
        texts.forEach(this::text);
        boolean form = contentType == null || contentType.toLowerCase(Locale.ROOT).contains("form");
        parameters(query, form ? body : new byte[0]);
    }

    /** What {@code getReader()} of the container gives. */
    private static String asReader(byte[] body, String encoding) throws IOException {
        Charset charset = encoding == null ? StandardCharsets.ISO_8859_1 : Charset.forName(encoding);
        StringBuilder text = new StringBuilder();
        try (InputStreamReader reader = new InputStreamReader(new ByteArrayInputStream(body), charset)) {
            for (int c; (c = reader.read()) >= 0;) text.append((char) c);
        }
        return text.toString();
    }

    private void note(String called, String id, String reader) {
        if (called == null && id == null) return;
        readings.putIfAbsent(Arrays.asList(called, id), reader);
    }

    private static byte[] unpack(byte[] body, boolean gzip) {
        try (InputStream in = gzip ? new GZIPInputStream(new ByteArrayInputStream(body))
                : new InflaterInputStream(new ByteArrayInputStream(body))) {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            byte[] buffer = new byte[4096];
            for (int n; (n = in.read(buffer)) > 0 && out.size() < 1 << 20;) out.write(buffer, 0, n);
            return out.toByteArray();
        } catch (IOException e) {
            return null;
        }
    }

    private static Set<Charset> charsets(String contentType) {
        Set<Charset> charsets = new LinkedHashSet<>();
        charsets.add(StandardCharsets.UTF_8);
        charsets.add(StandardCharsets.ISO_8859_1);
        String declared = contentType == null ? "" : contentType;
        for (String part : declared.split("[;,]")) {
            int at = part.indexOf('=');
            if (at < 0 || !part.toLowerCase(Locale.ROOT).contains("charset")) continue;
            try {
                charsets.add(Charset.forName(part.substring(at + 1).replaceAll("['\"\\s]", "")));
            } catch (IllegalArgumentException e) {
                continue;
            }
        }
        for (String name : new String[] {"UTF-16", "UTF-16LE", "UTF-32", "GBK", "GB18030", "Big5", "Shift_JIS", "x-Johab", "IBM037"}) {
            if (Charset.isSupported(name)) charsets.add(Charset.forName(name));
        }
        return charsets;
    }

    /** Jackson finds out the encoding by itself. */
    private void jackson(byte[] bytes) {
        attempt("jackson", () -> {
            Fields fields = STRICT.readValue(bytes, Fields.class);
            note(fields.called, string(fields.callcontrolid), "jackson");
        });
        attempt("jackson-int", () -> {
            IntFields fields = STRICT.readValue(bytes, IntFields.class);
            note(fields.called, String.valueOf(fields.callcontrolid), "jackson-int");
        });
        attempt("jackson-tree", () -> tree(STRICT.readTree(bytes), "jackson-tree"));
        attempt("jackson-lenient-tree", () -> tree(LENIENT.readTree(bytes), "jackson-lenient-tree"));
        attempt("jackson-lenient", () -> {
            Fields fields = LENIENT.readValue(bytes, Fields.class);
            note(fields.called, string(fields.callcontrolid), "jackson-lenient");
        });
    }

    private void tree(JsonNode node, String reader) {
        if (node == null) return;
        JsonNode object = node.isArray() && node.size() > 0 ? node.get(0) : node;
        note(asText(object.get("called")), asText(object.get("callcontrolid")), reader);
    }

    private static String asText(JsonNode node) {
        if (node == null || node.isNull()) return null;
        JsonNode value = node.isArray() && node.size() > 0 ? node.get(0) : node;
        return value.isValueNode() ? value.asText() : value.toString();
    }

    private void text(String text) {
        String plain = text.startsWith("\ufeff") ? text.substring(1) : text;
        if (plain.toLowerCase(Locale.ROOT).indexOf("call") < 0 && plain.indexOf("\\u") < 0) return;
        attempt("jackson-text", () -> tree(LENIENT.readTree(plain), "jackson-text"));
        attempt("gson", () -> {
            Fields fields = GSON.fromJson(plain, Fields.class);
            note(fields.called, string(fields.callcontrolid), "gson");
        });
        attempt("gson-default", () -> {
            Fields fields = DEFAULT_GSON.fromJson(plain, Fields.class);
            note(fields.called, string(fields.callcontrolid), "gson-default");
        });
        attempt("gson-map", () -> map(DEFAULT_GSON.fromJson(plain, Map.class), "gson-map"));
        attempt("gson-tree", () -> {
            JsonElement element = JsonParser.parseString(plain);
            note(gson(element, "called"), gson(element, "callcontrolid"), "gson-tree");
        });
        attempt("json-smart", () -> {
            Object value = new net.minidev.json.parser.JSONParser(-1).parse(plain);
            map(value, "json-smart");
        });
        attempt("json-org", () -> {
            org.json.JSONObject value = (org.json.JSONObject) new org.json.JSONTokener(plain).nextValue();
            note(value.isNull("called") ? null : value.getString("called"),
                value.isNull("callcontrolid") ? null : value.getString("callcontrolid"), "json-org");
        });
        every(plain);
    }

    private static String gson(JsonElement element, String key) {
        JsonElement value = element.getAsJsonObject().get(key);
        return value == null || value.isJsonNull() ? null : value.getAsString();
    }

    private void map(Object value, String reader) {
        if (!(value instanceof Map)) return;
        Map<?, ?> map = (Map<?, ?>) value;
        note(string(map.get("called")), string(map.get("callcontrolid")), reader);
    }

    /** Every value that stands under a key like the two, repeated ones included, however far the reader gets. */
    private void every(String text) {
        List<String> called = new ArrayList<>();
        List<String> ids = new ArrayList<>();
        attempt("every", () -> {
            JsonReader reader = new JsonReader(new StringReader(text));
            reader.setLenient(true);
            while (reader.peek() != JsonToken.END_DOCUMENT) {
                if (reader.peek() == JsonToken.BEGIN_ARRAY) reader.beginArray();
                reader.beginObject();
                while (reader.hasNext()) {
                    String key = folded(reader.nextName());
                    Collection<String> found = key.equals("called") ? called : key.equals("callcontrolid") ? ids : null;
                    if (found == null) {
                        reader.skipValue();
                    } else if (reader.peek() == JsonToken.NULL) {
                        reader.nextNull();
                    } else if (reader.peek() == JsonToken.STRING || reader.peek() == JsonToken.NUMBER) {
                        found.add(reader.nextString());
                    } else {
                        found.add(JsonParser.parseReader(reader).toString());
                    }
                }
                reader.endObject();
                if (reader.peek() == JsonToken.END_ARRAY) reader.endArray();
            }
        });
        pairs(called, ids, "every");
    }

    private void pairs(List<String> called, List<String> ids, String reader) {
        if (called.isEmpty()) called.add(null);
        if (ids.isEmpty()) ids.add(null);
        for (String number : called) for (String id : ids) note(number, id, reader);
    }

    static String folded(String key) {
        String plain = Normalizer.normalize(key, Normalizer.Form.NFKC).toUpperCase(Locale.ROOT).toLowerCase(Locale.ROOT);
        return NO_LETTER.matcher(plain).replaceAll("");
    }

    /** Form and query parameters win over the body in some frameworks and lose in others. */
    private void parameters(String query, byte[] body) {
        for (String form : new String[] {query, new String(body, StandardCharsets.ISO_8859_1)}) {
            if (form == null) continue;
            List<String> called = new ArrayList<>();
            List<String> ids = new ArrayList<>();
            for (String pair : form.split("[&;]")) {
                int at = pair.indexOf('=');
                if (at < 0) continue;
                String key = folded(INDEX.matcher(decoded(pair.substring(0, at))).replaceAll(""));
                if (key.equals("called")) called.add(decoded(pair.substring(at + 1)));
                if (key.equals("callcontrolid")) ids.add(decoded(pair.substring(at + 1)));
            }
            if (called.isEmpty() && ids.isEmpty()) continue;
            for (List<String> reading : new ArrayList<>(readings.keySet())) {
                for (String number : called.isEmpty() ? Arrays.asList(reading.get(0)) : called) {
                    for (String id : ids.isEmpty() ? Arrays.asList(reading.get(1)) : ids) note(number, id, "parameters");
                }
            }
            pairs(called, ids, "parameters");
        }
    }

    static String decoded(String text) {
        try {
            return URLDecoder.decode(text, "UTF-8");
        } catch (IllegalArgumentException | UnsupportedEncodingException e) {
            return text;
        }
    }

    private static String string(Object value) {
        if (value instanceof Double && (Double) value == Math.rint((Double) value)) return String.valueOf(((Double) value).longValue());
        return value == null ? null : value.toString();
    }

    private interface Reading {
        void run() throws Exception;
    }

    /** A mapper that does not understand has no reading. */
    private static void attempt(String reader, Reading reading) {
        try {
            reading.run();
        } catch (Exception | StackOverflowError e) {
            return;
        }
    }
}
