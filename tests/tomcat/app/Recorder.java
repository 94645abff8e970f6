import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedWriter;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStreamWriter;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.zip.CRC32;
import javax.servlet.Filter;
import javax.servlet.FilterChain;
import javax.servlet.FilterConfig;
import javax.servlet.ReadListener;
import javax.servlet.ServletException;
import javax.servlet.ServletInputStream;
import javax.servlet.ServletOutputStream;
import javax.servlet.ServletRequest;
import javax.servlet.ServletResponse;
import javax.servlet.WriteListener;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletRequestWrapper;
import javax.servlet.http.HttpServletResponse;
import javax.servlet.http.HttpServletResponseWrapper;

/** Writes down what every request that arrives could mean, before it is answered, and answers like CC-Gateway. */
final class Recorder implements Filter {
    private static final Pattern OVERRIDE = Pattern.compile("x?(http)?method(override)?");
    private static final String[] PATH_HEADERS = {"X-Original-URL", "X-Rewrite-URL"};
    private final ObjectMapper json = new ObjectMapper();
    private final BufferedWriter journal;

    Recorder(File journal) throws IOException {
        // Half of a surrogate pair becomes a question mark. A writer of Files would fail, at it and at everything after it.
        this.journal = new BufferedWriter(new OutputStreamWriter(Files.newOutputStream(journal.toPath()), StandardCharsets.UTF_8));
    }

    @Override
    public void init(FilterConfig config) { }

    @Override
    public void destroy() { }

    @Override
    public void doFilter(ServletRequest incoming, ServletResponse outgoing, FilterChain chain)
            throws IOException, ServletException {
        HttpServletRequest request = (HttpServletRequest) incoming;
        HttpServletResponse response = (HttpServletResponse) outgoing;
        // A body that breaks off never becomes a call.
        byte[] body = read(request.getInputStream());
        try {
            chain.doFilter(new Replayed(request, body), new Ignored(response));
        } catch (RuntimeException | ServletException e) {
            request.setAttribute("failed", e.toString());
        }
        Paths paths = Paths.of(spellings(request));
        write(entry(request, body, paths));
        answer(request, response, paths);
    }

    private static List<String> spellings(HttpServletRequest request) {
        List<String> spellings = new ArrayList<>();
        spellings.add(request.getRequestURI());
        spellings.add(request.getContextPath() + request.getServletPath() + (request.getPathInfo() == null ? "" : request.getPathInfo()));
        for (String name : PATH_HEADERS) spellings.add(request.getHeader(name));
        return spellings;
    }

    private static boolean overrides(String name) {
        return OVERRIDE.matcher(Bodies.folded(name)).matches();
    }

    private static Set<String> methods(HttpServletRequest request, byte[] body) {
        Set<String> methods = new LinkedHashSet<>();
        methods.add(request.getMethod());
        for (String name : Collections.list(request.getHeaderNames())) {
            if (overrides(name)) methods.add(request.getHeader(name));
        }
        String form = request.getQueryString() + "&" + new String(body, StandardCharsets.ISO_8859_1);
        for (String pair : form.split("[&;]")) {
            int at = pair.indexOf('=');
            if (at >= 0 && overrides(Bodies.decoded(pair.substring(0, at)))) {
                methods.add(Bodies.decoded(pair.substring(at + 1)));
            }
        }
        Set<String> read = new LinkedHashSet<>();
        for (String method : methods) if (method != null) read.add(method.trim().toUpperCase(Locale.ROOT));
        return read;
    }

    private Map<String, Object> entry(HttpServletRequest request, byte[] body, Paths paths) {
        Map<String, Object> entry = new LinkedHashMap<>();
        CRC32 crc = new CRC32();
        crc.update(body);
        entry.put("connection", request.getRemotePort());
        entry.put("case", request.getHeader("X-Case"));
        entry.put("id", request.getHeader("X-Request-Id"));
        entry.put("method", request.getMethod());
        entry.put("uri", request.getRequestURI());
        entry.put("query", request.getQueryString());
        entry.put("guid", request.getHeader("Guid"));
        entry.put("length", body.length);
        entry.put("crc", crc.getValue());
        Set<String> methods = methods(request, body);
        Set<String> callouts = new LinkedHashSet<>();
        Object routed = request.getAttribute(Routers.CALLOUTS);
        Map<?, ?> rest = routed == null ? Collections.emptyMap() : (Map<?, ?>) routed;
        rest.values().forEach(agent -> callouts.add(agent.toString()));
        if (methods.contains("PUT")) callouts.addAll(paths.callouts());
        entry.put("rest", rest);
        entry.put("failed", request.getAttribute("failed"));
        entry.put("callouts", callouts);
        entry.put("ends", ends(request, body, methods, paths));
        // Where the test asks for push, it needs the address that the gateway has put there.
        String marker = request.getHeader("X-Case");
        if (marker != null && marker.startsWith("sign-in")) entry.put("signIn", new String(body, StandardCharsets.UTF_8));
        if (body.length < 4096) entry.put("body", new String(body, StandardCharsets.UTF_8));
        if (!callouts.isEmpty()) {
            List<Object> bodies = new ArrayList<>();
            Bodies.of(body, request.getContentType(), request.getCharacterEncoding(), request.getQueryString())
                .readings.forEach((fields, reader) -> bodies.add(Arrays.asList(fields.get(0), fields.get(1), reader)));
            entry.put("bodies", bodies);
        }
        return entry;
    }

    /** The agents whose previews are void after this request. */
    private static Set<String> ends(HttpServletRequest request, byte[] body, Set<String> methods, Paths paths) {
        Set<String> agents = new LinkedHashSet<>();
        if (methods.contains("PUT")) {
            for (String agent : paths.cancels()) if (cancels(request, body, agent)) agents.add(agent);
            agents.addAll(paths.signIns());
        }
        if (methods.contains("DELETE")) agents.addAll(paths.signOuts());
        if (methods.contains("POST")) agents.addAll(paths.forcedSignOuts());
        return agents;
    }

    /** Whether a cancellation may mean the one preview that the agent has. */
    private static boolean cancels(HttpServletRequest request, byte[] body, String agent) {
        Set<List<String>> readings = Bodies.of(body, request.getContentType(), request.getCharacterEncoding(), request.getQueryString()).readings.keySet();
        return readings.isEmpty() || readings.stream().anyMatch(fields -> (agent + "0").equals(fields.get(1)));
    }

    private void write(Map<String, Object> entry) throws IOException {
        String line = json.writeValueAsString(entry);
        synchronized (journal) {
            journal.write(line);
            journal.newLine();
            journal.flush();
        }
    }

    /** Echoes the case, so that an answer given to the wrong request is noticed. */
    private static void answer(HttpServletRequest request, HttpServletResponse response, Paths paths) throws IOException {
        String event = "";
        if (request.getMethod().equals("GET")) {
            for (String agent : paths.polls()) {
                if (agent.matches("[0-9]+")) event = event(Long.parseLong(agent));
            }
        }
        response.reset();
        response.setStatus(200);
        response.setContentType("application/json;charset=UTF-8");
        String answered = request.getHeader("X-Case");
        if (answered != null && answered.matches("[0-9a-z-]+")) response.setHeader("X-Case", answered);
        byte[] text = ("{\"message\":\"\",\"retcode\":\"0\"" + event + "}").getBytes(StandardCharsets.UTF_8);
        response.setContentLength(text.length);
        response.getOutputStream().write(text);
    }

    /** Each agent has one preview, which follows from his number. */
    private static String event(long agent) {
        return ",\"event\":{\"eventType\":\"AgentEvent_Preview_CallOut_Ex\",\"workNo\":\"" + agent
            + "\",\"content\":{\"controlid\":" + agent * 10 + ",\"dialeddigits\":\"7" + agent + "01,7" + agent + "02\"}}";
    }

    private static byte[] read(InputStream in) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        byte[] buffer = new byte[8192];
        for (int n; (n = in.read(buffer)) >= 0;) out.write(buffer, 0, n);
        return out.toByteArray();
    }

    /** The request with its body to be read again and again. */
    static final class Replayed extends HttpServletRequestWrapper {
        private final ByteArrayInputStream body;

        Replayed(HttpServletRequest request, byte[] body) {
            super(request);
            this.body = new ByteArrayInputStream(body);
        }

        /** For the next one who reads it. */
        void rewind() { body.reset(); }

        @Override
        public ServletInputStream getInputStream() {
            return new ServletInputStream() {
                @Override public int read() { return body.read(); }
                @Override public boolean isFinished() { return body.available() == 0; }
                @Override public boolean isReady() { return true; }
                @Override public void setReadListener(ReadListener listener) { }
            };
        }
    }

    /** What the layers behind answer is not interesting. */
    private static final class Ignored extends HttpServletResponseWrapper {
        Ignored(HttpServletResponse response) { super(response); }

        @Override public void sendError(int status) { }
        @Override public void sendError(int status, String message) { }
        @Override public void sendRedirect(String location) { }
        @Override public void setStatus(int status) { }
        @Override public void flushBuffer() { }
        @Override public PrintWriter getWriter() { return new PrintWriter(new StringWriter()); }

        @Override
        public ServletOutputStream getOutputStream() {
            return new ServletOutputStream() {
                @Override public void write(int b) { }
                @Override public boolean isReady() { return true; }
                @Override public void setWriteListener(WriteListener listener) { }
            };
        }
    }
}
