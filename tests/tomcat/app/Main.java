import java.io.File;
import java.util.EnumSet;
import javax.servlet.DispatcherType;
import org.apache.catalina.Context;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;
import org.apache.tomcat.util.descriptor.web.FilterDef;
import org.apache.tomcat.util.descriptor.web.FilterMap;

/**
 * A Tomcat with a small CC-Gateway in it, as forgiving as its layers can be configured.
 *
 * Arguments: a base directory and the journal's file. Prints {@code ready DEFAULT LENIENT}, the ports of two
 * connectors: one as Tomcat comes, one with every relaxation switched on. Ends with its standard input.
 */
public final class Main {
    public static void main(String[] arguments) throws Exception {
        System.setProperty("org.apache.catalina.connector.CoyoteAdapter.ALLOW_BACKSLASH", "true");
        System.setProperty("org.apache.tomcat.util.buf.UDecoder.ALLOW_ENCODED_SLASH", "true");
        File base = new File(arguments[0]);
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
            Tomcat.addServlet(context, "nothing", new Rest.Nothing());
            context.addServletMappingDecoded("/", "nothing");
            Tomcat.addServlet(context, "rest", Rest.servlet()).setLoadOnStartup(1);
            context.addServletMappingDecoded("/resource/*", "rest");
        }
        Connector standard = connector(tomcat);
        Connector lenient = connector(tomcat);
        relax(lenient);
        tomcat.start();
        System.out.println("ready " + standard.getLocalPort() + " " + lenient.getLocalPort());
        while (System.in.read() >= 0) { }
        System.exit(0);
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
        connector.setProperty("address", "127.0.0.1");
        connector.setProperty("maxHttpHeaderSize", "65536");
        connector.setProperty("maxKeepAliveRequests", "-1");
        tomcat.getService().addConnector(connector);
        return connector;
    }

    private static void relax(Connector connector) {
        connector.setAllowTrace(true);
        connector.setParseBodyMethods("POST,PUT,OPTIONS");
        connector.setUseBodyEncodingForURI(true);
        connector.setProperty("allowBackslash", "true");
        connector.setProperty("encodedSolidusHandling", "decode");
        connector.setProperty("relaxedPathChars", "<>[\\]^`{|}\"");
        connector.setProperty("relaxedQueryChars", "<>[\\]^`{|}\"");
        connector.setProperty("rejectIllegalHeader", "false");
        connector.setProperty("allowHostHeaderMismatch", "true");
        connector.setProperty("allowedTrailerHeaders", "guid,content-type,x-http-method-override");
    }
}
