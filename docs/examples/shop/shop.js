// A plain shop on BrandOS's storefront: products, cart, checkout, order. No framework, no build.
"use strict";

const setting = (name) => document.querySelector(`meta[name="brandos-${name}"]`).content;
const API = setting("api") + "/api/v1/storefront";
const KEY = setting("key") || remembered("key", new URLSearchParams(location.search).get("key")) || "";
const main = document.getElementById("main");
let shop = { currency: "EUR", locale: "en" };

// ---- what the browser remembers --------------------------------------------------------------------------------------

function remembered(name, value) {
  if (value) localStorage.setItem(`brandos-${name}`, value);
  return localStorage.getItem(`brandos-${name}`);
}

function forget(...names) {
  for (const name of names) localStorage.removeItem(`brandos-${name}`);
}

const basket = () => {
  const [id, token] = [remembered("cart"), remembered("cart-token")];
  return id && token ? { id, token } : null;
};

// ---- asking ----------------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, problem) {
    super(problem.errors?.length ? problem.errors.map((e) => `${e.field}: ${e.detail}`).join("; ") : problem.detail || `error ${status}`);
    Object.assign(this, { status, code: problem.code });
  }
}

async function ask(method, path, body, more = {}) {
  const headers = { Authorization: `Bearer ${KEY}`, ...more };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(API + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const json = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, json);
  return json;
}

// The same about the cart. One that is over is forgotten.
async function askCart(method, path = "", body, more = {}) {
  const { id, token } = basket();
  try {
    return showCount(await ask(method, `/carts/${id}${path}`, body, { "Cart-Token": token, ...more }));
  } catch (problem) {
    if (["carts.cart_not_found", "carts.expired", "carts.merged", "carts.ordered"].includes(problem.code)) {
      forget("cart", "cart-token", "checkout-key");
      showCount(null);
    }
    throw problem;
  }
}

async function addToCart(variant_id, quantity, seen_price) {
  const line = { variant_id, quantity, seen_price };
  if (basket()) {
    try {
      return await askCart("POST", "/lines", line, { "Idempotency-Key": crypto.randomUUID() });
    } catch (problem) {
      if (basket()) throw problem;
    }
  }
  const cart = await ask("POST", "/carts", { currency: shop.currency, lines: [line] });
  remembered("cart", cart.cart_id);
  remembered("cart-token", cart.token);
  return showCount(cart);
}

// ---- showing ---------------------------------------------------------------------------------------------------------

// Texts are texts: nothing that comes from the server is taken for markup.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

function show(...children) {
  main.replaceChildren(...children.flat().filter(Boolean));
}

function note(text, good = false) {
  return make("p", { class: good ? "note good" : "note", role: "status" }, text);
}

function money(amount, currency = shop.currency) {
  return amount == null ? "–" : new Intl.NumberFormat(shop.locale, { style: "currency", currency }).format(amount);
}

function minor(amount, currency = shop.currency) {
  const digits = new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions().maximumFractionDigits;
  return money(amount / 10 ** digits, currency);
}

function showCount(cart) {
  const units = cart?.lines?.reduce((sum, line) => sum + line.quantity, 0) ?? 0;
  document.getElementById("cart-link").textContent = units ? `Cart (${units})` : "Cart";
  return cart;
}

// Runs what a button does: once at a time, and says what is wrong above the page.
function doing(work) {
  return async (event) => {
    event.preventDefault();
    const button = event.submitter ?? event.currentTarget;
    button.disabled = true;
    try {
      await work(event);
    } catch (problem) {
      main.querySelector(".note")?.remove();
      main.prepend(note(problem.message));
    } finally {
      button.disabled = false;
    }
  };
}

// ---- pages -----------------------------------------------------------------------------------------------------------

async function listPage(q = "", cursor = "") {
  const query = new URLSearchParams({ currency: shop.currency, limit: "24" });
  if (q) query.set("q", q);
  if (cursor) query.set("cursor", cursor);
  const page = await ask("GET", `/products?${query}`);
  const card = (product) =>
    make("li", {}, make("a", { class: "card", href: `#/product/${product.product_id}` },
      make("strong", {}, product.title),
      make("div", { class: "soft" }, product.from_price == null ? "not sold in this currency" : `from ${money(product.from_price)}`)));
  show(
    make("h1", {}, q ? `“${q}”` : "Products"),
    page.data.length ? make("ul", { class: "grid" }, page.data.map(card)) : make("p", {}, "Nothing found."),
    page.next_cursor && make("button", { class: "quiet", onclick: doing(() => listPage(q, page.next_cursor)) }, "More"),
  );
}

async function productPage(id) {
  const product = await ask("GET", `/products/${id}?currency=${shop.currency}`);
  const stock = await ask("GET", `/products/${id}/availability`).catch(() => ({ data: [] }));
  const of = (variant) => stock.data.find((known) => known.variant_id === variant.variant_id)?.available ?? "yes";
  const words = { yes: "", low: " · only a few left", no: " · sold out" };
  const option = (variant) =>
    make("option", { value: variant.variant_id, disabled: variant.unit_price == null || of(variant) === "no" },
      `${variant.title} — ${money(variant.unit_price)}${words[of(variant)]}`);
  const add = doing(async (event) => {
    const form = new FormData(event.target);
    const variant = product.variants.find((known) => known.variant_id === form.get("variant"));
    await addToCart(variant.variant_id, Number(form.get("quantity")), variant.unit_price);
    location.hash = "#/cart";
  });
  const canBuy = product.variants.some((variant) => variant.unit_price != null && of(variant) !== "no");
  show(
    make("h1", {}, product.title),
    make("p", {}, product.description),
    make("form", { class: "fields", onsubmit: add },
      make("label", {}, "Variant", make("select", { name: "variant", required: true }, product.variants.map(option))),
      make("label", {}, "Quantity", make("input", { name: "quantity", type: "number", min: 1, max: 1000000, value: 1, required: true })),
      make("button", { disabled: !canBuy }, canBuy ? "Put into the cart" : "Sold out")),
  );
}

function differenceText(cart, difference) {
  const title = cart.lines.find((line) => line.variant_id === difference.variant_id)?.title ?? difference.title;
  switch (difference.what) {
    case "not_sold": return `${title} is not sold any more.`;
    case "fewer_available": return difference.available ? `Only ${difference.available} of ${title} are left.` : `${title} is sold out.`;
    case "price_up": return `${title} costs ${money(difference.now, cart.currency)} now, not ${money(difference.seen, cart.currency)}.`;
    case "price_down": return `${title} has become cheaper: ${money(difference.now, cart.currency)}.`;
    default: return `${title} costs ${money(difference.now, cart.currency)}.`;
  }
}

function totals(cart) {
  const priced = cart.pricing;
  if (!priced) return null;
  const row = (name, amount) => make("tr", {}, make("td", {}, name), make("td", { class: "amount" }, minor(amount, cart.currency)));
  const sums = priced.totals;
  const charges = priced.lines.filter((line) => line.kind === "charge");
  return make("table", {}, make("tbody", {},
    row("Goods", sums.goods_minor),
    priced.adjustments.map((off) => row(off.coupon ? `${off.name} (${off.coupon})` : off.name, -off.amount_minor)),
    charges.map((line) => row(line.sku, line.total_minor)),
    sums.tax_minor ? row("Tax", sums.tax_minor) : null,
    make("tr", {}, make("th", {}, sums.included_tax_minor ? `Total, with ${minor(sums.included_tax_minor, cart.currency)} tax` : "Total"),
      make("th", { class: "amount", id: "total" }, minor(sums.total_minor, cart.currency)))));
}

async function cartPage() {
  if (!basket()) return show(make("h1", {}, "Cart"), make("p", {}, "Nothing is in it yet. ", make("a", { href: "#/" }, "Look around")));
  const cart = await askCart("GET");
  const again = () => cartPage();
  const priced = (line) => cart.pricing?.lines.find((known) => known.line === line.line);
  const seen = { "If-Match": `"${cart.version}"` };
  const row = (line) => make("tr", {},
    make("td", {}, line.title, line.available === "low" ? make("span", { class: "soft" }, " · only a few left") : null),
    make("td", {}, make("input", {
      type: "number", min: 1, max: 1000000, value: line.quantity, "aria-label": `Quantity of ${line.title}`,
      onchange: doing(async (event) => {
        await askCart("PUT", `/lines/${line.variant_id}`, { quantity: Number(event.target.value) }, seen);
        await again();
      }),
    })),
    make("td", { class: "amount" }, money(priced(line)?.unit_price ?? line.list_price, cart.currency)),
    make("td", { class: "amount" }, priced(line) ? minor(priced(line).total_minor, cart.currency) : ""),
    make("td", {}, make("button", { class: "quiet", "aria-label": `Remove ${line.title}`, onclick: doing(async () => {
      await askCart("DELETE", `/lines/${line.variant_id}`, undefined, seen);
      await again();
    }) }, "Remove")));
  const stopped = cart.differences.some((difference) => difference.what !== "price_down");
  const whyNot = (cart.pricing?.coupons ?? []).filter((coupon) => !coupon.applied);
  show(
    make("h1", {}, "Cart"),
    cart.pricing_problem && note(cart.pricing_problem.detail),
    cart.differences.map((difference) => note(differenceText(cart, difference))),
    stopped && make("div", { class: "row" }, make("button", { onclick: doing(async () => {
      await askCart("POST", "/accept", undefined, seen);
      await again();
    }) }, "Take it as it is now")),
    cart.lines.length === 0 ? make("p", {}, "Nothing is in it. ", make("a", { href: "#/" }, "Look around")) : make("table", {},
      make("thead", {}, make("tr", {}, ["Product", "Quantity"].map((name) => make("th", {}, name)), ["Price", "Total"].map((name) => make("th", { class: "amount" }, name)), make("th"))),
      make("tbody", {}, cart.lines.map(row))),
    make("form", { class: "row", onsubmit: doing(async (event) => {
      await askCart("POST", "/coupons", { code: new FormData(event.target).get("code").trim() });
      await again();
    }) }, make("input", { name: "code", maxlength: 64, required: true, placeholder: "Coupon", "aria-label": "Coupon" }), make("button", { class: "quiet" }, "Add")),
    cart.coupons.map((code) => make("p", { class: "row" }, `Coupon ${code}`,
      make("button", { class: "quiet", onclick: doing(async () => {
        await askCart("DELETE", `/coupons/${encodeURIComponent(code)}`);
        await again();
      }) }, "Remove"))),
    whyNot.map((coupon) => note(`${coupon.code} takes nothing off: ${(coupon.reason ?? "unknown").replaceAll("_", " ")}.`)),
    totals(cart),
    make("div", { class: "row" }, make("button", { id: "to-checkout", disabled: !cart.can_checkout, onclick: () => { location.hash = "#/checkout"; } }, "Check out")),
  );
}

async function checkoutPage() {
  if (!basket()) return cartPage();
  const cart = await askCart("GET");
  const to = cart.destination ?? {};
  const field = (name, label, value, more = {}) => make("label", {}, label, make("input", { name, value: value ?? "", ...more }));
  const needed = { required: true };
  const methods = cart.shipping_methods ?? [];
  const save = doing(async (event) => {
    const form = Object.fromEntries(new FormData(event.target));
    const { email, ...destination } = form;
    for (const name of Object.keys(destination)) destination[name] = destination[name].trim() || undefined;
    destination.country = destination.country?.toUpperCase();
    await askCart("PATCH", "", { email: email.trim(), destination });
    await checkoutPage();
  });
  const choose = (method) => make("label", { class: "row" },
    make("input", { type: "radio", name: "method", value: method.method_id, checked: cart.shipping_method === method.method_id, onchange: doing(async () => {
      await askCart("PATCH", "", { shipping_method: method.method_id });
      await checkoutPage();
    }) }), `${method.name} — ${minor(method.price_minor, cart.currency)}`);
  const ready = cart.can_checkout && cart.email && cart.destination && (methods.length === 0 || cart.shipping_method);
  show(
    make("h1", {}, "Checkout"),
    make("form", { class: "fields", id: "details", onsubmit: save },
      field("email", "E-mail", cart.email, { type: "email", ...needed }),
      field("recipient", "Name", to.recipient, needed),
      field("line1", "Street and number", to.line1, needed),
      field("postcode", "Postcode", to.postcode),
      field("city", "City", to.city, needed),
      field("country", "Country, two letters", to.country, { pattern: "[A-Za-z]{2}", maxlength: 2, ...needed }),
      make("button", { class: "quiet" }, "Save")),
    methods.map(choose),
    cart.pricing_problem && note(cart.pricing_problem.detail),
    totals(cart),
    make("form", { class: "row", id: "pay", onsubmit: doing((event) => pay(cart, new FormData(event.target).get("token"))) },
      // With a real provider its own form stands here, and gives a token for the card.
      make("select", { name: "token", "aria-label": "Card" },
        make("option", { value: "tok_approve" }, "Test card that is approved"),
        make("option", { value: "tok_hard_decline" }, "Test card that is declined")),
      make("button", { disabled: !ready }, "Pay")),
  );
}

// One attempt has one key, so that an answer that was lost is asked for again and nothing is paid twice.
async function pay(cart, token) {
  const key = remembered("checkout-key") ?? remembered("checkout-key", crypto.randomUUID());
  const body = {
    cart_id: cart.cart_id, cart_version: cart.version, expected_total_minor: cart.pricing.totals.total_minor,
    payment_token: cart.pricing.totals.total_minor ? token : undefined,
  };
  const more = { "Cart-Token": basket().token, "Idempotency-Key": key };
  try {
    const checkout = await ask("POST", "/checkouts", body, more);
    remembered("checkout-token", checkout.token);
    forget("checkout-key");
    location.hash = `#/order/${checkout.checkout_id}`;
  } catch (problem) {
    // Refused: the next attempt is another one. Without an answer it may be under way, and keeps its key.
    if (problem instanceof Refused && problem.status < 500) forget("checkout-key");
    throw problem;
  }
}

async function orderPage(id) {
  const checkout = await ask("GET", `/checkouts/${id}`, undefined, { "Checkout-Token": remembered("checkout-token") });
  const paid = checkout.state === "completed";
  const failed = checkout.state === "failed";
  const confirm = checkout.payment?.action_url;
  if (paid) {
    forget("cart", "cart-token");
    showCount(null);
  }
  show(
    make("h1", {}, paid ? "Thank you" : failed ? "Not paid" : "One moment"),
    paid && note(`Your order ${checkout.order_id} is paid: ${minor(checkout.total_minor, checkout.currency)}.`, true),
    failed && note(`The payment was not made (${(checkout.reason ?? "refused").replaceAll("_", " ")}). Nothing was taken, and the cart is as it was.`),
    failed && make("a", { href: "#/checkout" }, "Try again"),
    !paid && !failed && make("p", { class: "soft" }, "The payment is on its way."),
    !paid && !failed && confirm && make("a", { href: confirm }, "Confirm it at your bank"),
  );
  if (!paid && !failed && location.hash === `#/order/${id}`) setTimeout(route, 1000);
}

// ---- the way -----------------------------------------------------------------------------------------------------------

async function route() {
  const [page, id] = location.hash.replace(/^#\/?/, "").split("/");
  try {
    if (!KEY) return show(make("h1", {}, "Which shop?"), note("This page needs a publishable key: add ?key=pk_... to its address, or write it into index.html."));
    if (page === "product") await productPage(id);
    else if (page === "cart") await cartPage();
    else if (page === "checkout") await checkoutPage();
    else if (page === "order") await orderPage(id);
    else if (page === "search") await listPage(decodeURIComponent(id ?? ""));
    else await listPage();
  } catch (problem) {
    show(make("h1", {}, "That did not work"), note(problem.message));
  }
}

document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const q = new FormData(event.target).get("q").trim();
  location.hash = q ? `#/search/${encodeURIComponent(q)}` : "#/";
});
addEventListener("hashchange", route);
(async () => {
  if (KEY) shop = await ask("GET", "/shop").catch(() => shop);
  if (KEY && basket()) askCart("GET").catch(() => {});
  await route();
})();
