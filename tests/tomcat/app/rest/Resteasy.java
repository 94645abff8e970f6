package rest;

import java.util.function.Supplier;
import javax.servlet.Servlet;
import org.jboss.resteasy.plugins.server.servlet.HttpServletDispatcher;

/** RESTEasy; {@code Main} sets its parameters. */
public final class Resteasy implements Supplier<Servlet> {
    @Override
    public Servlet get() {
        return new HttpServletDispatcher();
    }
}
