import java.io.File;
import java.io.IOException;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import javax.servlet.Servlet;
import javax.servlet.ServletConfig;
import javax.servlet.ServletException;
import javax.servlet.http.HttpServlet;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;

/**
 * The JAX-RS layer: every router there is, one after the other, each of which may take the request for a callout.
 *
 * They implement different versions of one API, so each has a class loader of its own.
 */
final class Routers extends HttpServlet {
    /** On the request: the name of each router that took it for a callout, and of which agent. */
    static final String CALLOUTS = "rest.callouts";

    private final Map<String, Servlet> routers = new LinkedHashMap<>();

    /** Of each router: {@code CLASS=PATH}, the path holding its libraries and the package {@code rest}. */
    Routers(List<String> described) throws Exception {
        for (String one : described) {
            int at = one.indexOf('=');
            List<URL> path = new ArrayList<>();
            for (String entry : one.substring(at + 1).split(File.pathSeparator)) path.add(new File(entry).toURI().toURL());
            ClassLoader loader = new URLClassLoader(path.toArray(new URL[0]), Routers.class.getClassLoader());
            String name = one.substring(0, at);
            within(loader, () -> {
                Supplier<?> made = (Supplier<?>) loader.loadClass("rest." + name).getDeclaredConstructor().newInstance();
                routers.put(name, (Servlet) made.get());
            });
        }
    }

    @Override
    public void init(ServletConfig config) throws ServletException {
        for (Servlet router : routers.values()) within(router, () -> router.init(config));
    }

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response) throws ServletException {
        Map<String, Object> callouts = new LinkedHashMap<>();
        request.setAttribute(CALLOUTS, callouts);
        for (Map.Entry<String, Servlet> router : routers.entrySet()) {
            ((Recorder.Replayed) request).rewind();
            request.removeAttribute("rest.callout");
            try {
                within(router.getValue(), () -> router.getValue().service(request, response));
            } catch (RuntimeException | ServletException | LinkageError e) {
                // What it could not answer may have been a callout to it all the same: Jersey 1 writes the status by a
                // method that Tomcat 10 has no more.
                request.setAttribute("failed", e.toString());
            }
            Object agent = request.getAttribute("rest.callout");
            if (agent != null) callouts.put(router.getKey(), agent);
        }
    }

    private interface Step {
        void run() throws Exception;
    }

    private static void within(Servlet router, Step step) throws ServletException {
        try {
            within(router.getClass().getClassLoader(), step);
        } catch (RuntimeException | ServletException e) {
            throw e;
        } catch (Exception e) {
            throw new ServletException(e);
        }
    }

    /** They look for their parts through the thread. */
    private static void within(ClassLoader loader, Step step) throws Exception {
        ClassLoader before = Thread.currentThread().getContextClassLoader();
        Thread.currentThread().setContextClassLoader(loader);
        try {
            step.run();
        } finally {
            Thread.currentThread().setContextClassLoader(before);
        }
    }
}
