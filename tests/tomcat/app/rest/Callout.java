package rest;

import javax.servlet.http.HttpServletRequest;
import javax.ws.rs.PUT;
import javax.ws.rs.Path;
import javax.ws.rs.PathParam;
import javax.ws.rs.core.Context;

/** The guarded resource as a JAX-RS router sees it. It only notes on the request whose callout it was taken for. */
@Path("{service:(?i:voicecall)}/{agent}/{action:(?i:previewcallout)}")
public final class Callout {
    @PUT
    public String put(@Context HttpServletRequest request, @PathParam("agent") String agent) {
        request.setAttribute("rest.callout", agent);
        return "";
    }
}
