import com.sun.jersey.api.core.DefaultResourceConfig;
import com.sun.jersey.api.core.ResourceConfig;
import com.sun.jersey.spi.container.servlet.ServletContainer;
import com.sun.jersey.api.container.filter.PostReplaceFilter;
import com.sun.jersey.api.container.filter.UriConnegFilter;
import java.util.Arrays;
import java.util.Collections;
import javax.servlet.Servlet;
import javax.servlet.http.HttpServlet;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import javax.ws.rs.PUT;
import javax.ws.rs.Path;
import javax.ws.rs.PathParam;
import javax.ws.rs.core.Context;
import javax.ws.rs.core.MediaType;

/** The JAX-RS layer: Jersey with its forgiving filters. It only notes on the request what it was taken for. */
public final class Rest {
    static final String CALLOUT = "rest.callout";

    @Path("{service:(?i:voicecall)}/{agent}/{action:(?i:previewcallout)}")
    public static final class Callout {
        @PUT
        public String put(@Context HttpServletRequest request, @PathParam("agent") String agent) {
            request.setAttribute(CALLOUT, agent);
            return "";
        }
    }

    static Servlet servlet() {
        ResourceConfig config = new DefaultResourceConfig(Callout.class);
        config.getFeatures().put(ResourceConfig.FEATURE_NORMALIZE_URI, true);
        config.getFeatures().put(ResourceConfig.FEATURE_CANONICALIZE_URI_PATH, true);
        config.getFeatures().put(ResourceConfig.FEATURE_DISABLE_WADL, true);
        UriConnegFilter suffixes = new UriConnegFilter(Collections.singletonMap("json", MediaType.APPLICATION_JSON_TYPE));
        config.getProperties().put(ResourceConfig.PROPERTY_CONTAINER_REQUEST_FILTERS,
            Arrays.asList(new PostReplaceFilter(), suffixes));
        return new ServletContainer(config);
    }

    /** What nobody maps. The recorder answers. */
    static final class Nothing extends HttpServlet {
        @Override
        protected void service(HttpServletRequest request, HttpServletResponse response) { }
    }
}
