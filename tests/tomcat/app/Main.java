import java.io.File;
import java.util.Arrays;
import java.util.List;
import javax.servlet.DispatcherType;
import javax.servlet.http.HttpServlet;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.apache.catalina.Context;
import org.apache.catalina.Wrapper;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;
import org.apache.coyote.http2.Http2Protocol;
import org.apache.tomcat.util.IntrospectionUtils;
import org.apache.tomcat.util.descriptor.web.FilterDef;
import org.apache.tomcat.util.descriptor.web.FilterMap;

/**
 * A Tomcat with a small CC-Gateway in it, as forgiving as its layers can be configured.
 *
 * Arguments: a base directory, the journal's file, and the routers (see {@code Routers}). Prints
 * {@code ready DEFAULT LENIENT PASSING}, the ports of three connectors: one as Tomcat comes, one with every relaxation
 * switched on, and one that besides leaves encoded slashes for the application to decode. Ends with its standard input.
 */
public final class Main {
    public static void main(String[] arguments) throws Exception {
        // Tomcat 9 takes some relaxations from here only; Tomcat 10 knows neither any more.
        System.setProperty("org.apache.catalina.connector.CoyoteAdapter.ALLOW_BACKSLASH", "true");
        System.setProperty("org.apache.tomcat.util.buf.UDecoder.ALLOW_ENCODED_SLASH", "true");
        File base = new File(arguments[0]);
        List<String> routers = Arrays.asList(arguments).subList(2, arguments.length);
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(base.getPath());
        Recorder recorder = new Recorder(new File(arguments[1]));
        // The second one sees whatever is led out of the application's path.
        for (String path : new String[] {"/agentgateway", ""}) {
            Context context = tomcat.addContext(path, base.getPath());
            // Tomcat keeps the slashes of a path that was encoded as they are; nothing may redirect.
            context.setMapperContextRootRedirectEnabled(false);
            context.setMapperDirectoryRedirectEnabled(false);
            addFilter(context, recorder);
            Tomcat.addServlet(context, "nothing", new Nothing());
            context.addServletMappingDecoded("/", "nothing");
            addRouters(context, new Routers(routers));
        }
        Connector standard = connector(tomcat);
        Connector lenient = connector(tomcat);
        relax(lenient, "decode");
        Connector passing = connector(tomcat);
        relax(passing, "passthrough");
        tomcat.start();
        System.out.println("ready " + standard.getLocalPort() + " " + lenient.getLocalPort() + " " + passing.getLocalPort());
        while (System.in.read() >= 0) { }
        System.exit(0);
    }

    /** What nobody maps. The recorder answers. */
    private static final class Nothing extends HttpServlet {
        @Override
        protected void service(HttpServletRequest request, HttpServletResponse response) { }
    }

    private static void addRouters(Context context, Routers routers) {
        Wrapper servlet = Tomcat.addServlet(context, "rest", routers);
        servlet.setLoadOnStartup(1);
        servlet.addInitParameter("resteasy.resources", "rest.Callout");
        servlet.addInitParameter("resteasy.servlet.mapping.prefix", "/resource");
        servlet.addInitParameter("resteasy.media.type.mappings", "json : application/json, xml : application/xml");
        servlet.addInitParameter("resteasy.language.mappings", "en : en-US");
        context.addServletMappingDecoded("/resource/*", "rest");
    }

    private static void addFilter(Context context, Recorder recorder) {
        FilterDef definition = new FilterDef();
        definition.setFilterName("recorder");
        definition.setFilter(recorder);
        context.addFilterDef(definition);
        FilterMap map = new FilterMap();
        map.setFilterName("recorder");
        map.addURLPatternDecoded("/*");
        map.setDispatcher(DispatcherType.REQUEST.name());
        context.addFilterMap(map);
    }

    private static Connector connector(Tomcat tomcat) {
        Connector connector = new Connector("org.apache.coyote.http11.Http11NioProtocol");
        connector.setPort(0);
        set(connector, "address", "127.0.0.1");
        set(connector, "maxHttpHeaderSize", "65536");
        set(connector, "maxKeepAliveRequests", "-1");
        tomcat.getService().addConnector(connector);
        return connector;
    }

    private static void relax(Connector connector, String solidus) {
        connector.setAllowTrace(true);
        connector.setParseBodyMethods("POST,PUT,OPTIONS");
        connector.setUseBodyEncodingForURI(true);
        connector.setEncodedSolidusHandling(solidus);
        connector.setMaxParameterCount(-1);
        connector.setMaxPostSize(-1);
        set(connector, "relaxedPathChars", "<>[\\]^`{|}\"");
        set(connector, "relaxedQueryChars", "<>[\\]^`{|}\"");
        set(connector, "rejectIllegalHeader", "false");
        set(connector, "allowHostHeaderMismatch", "true");
        set(connector, "allowedTrailerHeaders", "guid,content-type,content-length,host,x-case,x-http-method-override");
        set(connector, "maxSwallowSize", "-1");
        set(connector, "maxExtensionSize", "65536");
        if (knows(connector, "setAllowBackslash")) {
            set(connector, "allowBackslash", "true");
        }
        if (knows(connector, "setEncodedReverseSolidusHandling")) {
            set(connector, "encodedReverseSolidusHandling", solidus);
        }
        // As an upgrade and with prior knowledge: a second protocol that nobody judges.
        connector.addUpgradeProtocol(new Http2Protocol());
    }

    private static boolean knows(Connector connector, String setter) {
        return Arrays.stream(connector.getClass().getMethods()).anyMatch(method -> method.getName().equals(setter));
    }

    /** Of the connector or its protocol; a relaxation that nobody knows relaxes nothing. */
    private static void set(Connector connector, String name, String value) {
        boolean known = IntrospectionUtils.setProperty(connector, name, value, false)
            || IntrospectionUtils.setProperty(connector.getProtocolHandler(), name, value);
        if (!known) throw new IllegalArgumentException(name);
    }
}
