//! The handlers of a path, and their description, which is made only when it is asked for.
//!
//! `utoipa_axum::routes!` makes descriptions at once: of every type of every route at each start of a program, to be held or thrown away
//! by one that nobody asks for its OpenAPI document. Here a start learns the path and the methods.

use crate::app::App;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::MethodRouter;
use utoipa::openapi::HttpMethod;
use utoipa_axum::PathItemExt as _;
use utoipa_axum::router::UtoipaMethodRouter;

/// The handlers of one path, as [`crate::handlers!`] makes them.
pub struct Handlers {
    /// One, or the route is refused.
    pub(crate) paths: Vec<String>,
    pub(crate) methods: Vec<Method>,
    pub(crate) router: MethodRouter<App>,
    /// Makes the description.
    pub(crate) describe: fn() -> UtoipaMethodRouter<App>,
}

impl Handlers {
    /// None yet, with what describes those that are added.
    #[doc(hidden)]
    pub fn new(describe: fn() -> UtoipaMethodRouter<App>) -> Handlers {
        Handlers { paths: Vec::new(), methods: Vec::new(), router: MethodRouter::new(), describe }
    }

    /// With `handler`, whose path and methods `P` tells.
    #[doc(hidden)]
    #[must_use]
    pub fn and<P: utoipa::Path, H: Handler<T, App>, T: 'static>(mut self, handler: H) -> Handlers {
        let path = P::path();
        if !self.paths.contains(&path) {
            self.paths.push(path);
        }
        for method in P::methods() {
            self.router = self.router.on(method.to_method_filter(), handler.clone());
            self.methods.push(name(&method));
        }
        self
    }
}

fn name(method: &HttpMethod) -> Method {
    match method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Delete => Method::DELETE,
        HttpMethod::Options => Method::OPTIONS,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Trace => Method::TRACE,
    }
}

/// The handlers of one path: `handlers!(get_order, change_order)`, or `handlers!(orders::get)`. Each is a function that
/// `#[utoipa::path]` describes.
#[macro_export]
macro_rules! handlers {
    (@and $all:expr, $handler:ident) => {
        $crate::paste! { $all.and::<[<__path_ $handler>], _, _>($handler) }
    };
    (@and $all:expr, $module:ident :: $handler:ident) => {
        $crate::paste! { $all.and::<$module::[<__path_ $handler>], _, _>($module::$handler) }
    };
    ($($($part:ident)::+),+ $(,)?) => {{
        let all = $crate::Handlers::new(|| $crate::described!($($($part)::+),+));
        $( let all = $crate::handlers!(@and all, $($part)::+); )+
        all
    }};
}
