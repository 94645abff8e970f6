package rest;

import com.sun.jersey.api.container.filter.PostReplaceFilter;
import com.sun.jersey.api.container.filter.UriConnegFilter;
import com.sun.jersey.api.core.DefaultResourceConfig;
import com.sun.jersey.api.core.ResourceConfig;
import com.sun.jersey.spi.container.servlet.ServletContainer;
import java.util.Arrays;
import java.util.Collections;
import java.util.Map;
import java.util.function.Supplier;
import javax.servlet.Servlet;
import javax.ws.rs.core.MediaType;

/** Jersey 1 with its forgiving filters. */
public final class Jersey implements Supplier<Servlet> {
    @Override
    public Servlet get() {
        ResourceConfig config = new DefaultResourceConfig(Callout.class);
        Map<String, Boolean> features = config.getFeatures();
        features.put(ResourceConfig.FEATURE_NORMALIZE_URI, true);
        features.put(ResourceConfig.FEATURE_CANONICALIZE_URI_PATH, true);
        features.put(ResourceConfig.FEATURE_DISABLE_WADL, true);
        UriConnegFilter suffixes = new UriConnegFilter(Collections.singletonMap("json", MediaType.APPLICATION_JSON_TYPE));
        config.getProperties().put(ResourceConfig.PROPERTY_CONTAINER_REQUEST_FILTERS,
            Arrays.asList(new PostReplaceFilter(), suffixes));
        return new ServletContainer(config);
    }
}
