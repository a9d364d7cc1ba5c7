// Draws /openapi.json: the routes by tag, their schemas, and a form to try each. Everything goes in as text, never as HTML.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
let api;

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== undefined && child !== null));
  return node;
}

function resolve(thing) {
  if (!thing || !thing.$ref) return thing;
  return thing.$ref.slice(2).split("/").reduce((at, part) => at && at[part.replaceAll("~1", "/").replaceAll("~0", "~")], api) || {};
}

const typesOf = (schema) => [schema.type].flat().filter((t) => t && t !== "null");

// A schema as text: name: type, one line a field.
function describe(schema, indent = "", seen = []) {
  if (!schema) return "any";
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    if (seen.includes(name)) return name;
    return describe(resolve(schema), indent, [...seen, name]);
  }
  const several = schema.oneOf || schema.anyOf;
  if (several) return several.filter((s) => s.type !== "null").map((s) => describe(s, indent, seen)).join(" | ") + (several.some((s) => s.type === "null") ? " or null" : "");
  if (schema.allOf) return schema.allOf.map((s) => describe(s, indent, seen)).join(" & ");
  const orNull = [schema.type].flat().includes("null") ? " or null" : "";
  const type = typesOf(schema)[0];
  if (type === "array") return "[ " + describe(schema.items, indent, seen) + " ]" + limits(schema) + orNull;
  if (type === "object" || schema.properties) {
    const inner = indent + "  ";
    const lines = Object.entries(schema.properties || {}).map(([name, field]) => {
      const need = (schema.required || []).includes(name) ? "" : "?";
      const about = (field.description || "").split("\n")[0];
      return inner + name + need + ": " + describe(field, inner, seen) + (about ? "   // " + about : "");
    });
    if (schema.additionalProperties && typeof schema.additionalProperties === "object") lines.push(inner + "[name]: " + describe(schema.additionalProperties, inner, seen));
    return lines.length ? "{\n" + lines.join("\n") + "\n" + indent + "}" + orNull : "object" + orNull;
  }
  if (schema.enum) return schema.enum.map((v) => JSON.stringify(v)).join(" | ") + orNull;
  return (type || "any") + (schema.format ? " (" + schema.format + ")" : "") + limits(schema) + orNull;
}

function limits(schema) {
  const parts = [];
  const range = (low, high, unit) => {
    if (low === undefined && high === undefined) return;
    parts.push((low ?? "") + ".." + (high ?? "") + unit);
  };
  range(schema.minLength, schema.maxLength, " characters");
  range(schema.minItems, schema.maxItems, " items");
  range(schema.minimum, schema.maximum, "");
  if (schema.pattern) parts.push(schema.pattern);
  return parts.length ? " " + parts.join(", ") : "";
}

// An example value of a schema, to begin a request with.
function example(schema, seen = []) {
  if (!schema) return null;
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return seen.includes(name) ? null : example(resolve(schema), [...seen, name]);
  }
  if (schema.example !== undefined) return schema.example;
  if (schema.examples && schema.examples.length) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum[0];
  const several = schema.oneOf || schema.anyOf;
  if (several) return example(several.find((s) => s.type !== "null"), seen);
  if (schema.allOf) return Object.assign({}, ...schema.allOf.map((s) => example(s, seen)));
  const type = typesOf(schema)[0];
  if (type === "object" || schema.properties) {
    const required = schema.required || [];
    const fields = Object.entries(schema.properties || {}).filter(([name]) => required.length === 0 || required.includes(name));
    return Object.fromEntries(fields.map(([name, field]) => [name, example(field, seen)]));
  }
  if (type === "array") return [example(schema.items, seen)];
  if (type === "integer" || type === "number") return schema.minimum ?? 1;
  if (type === "boolean") return false;
  return schema.format === "date-time" ? new Date().toISOString() : "";
}

function parametersTable(parameters) {
  return el("table", {}, ...parameters.map((p) => el("tr", {},
    el("td", {}, el("code", {}, p.name), p.required ? el("span", { class: "need" }, "required") : ""),
    el("td", { class: "soft" }, p.in),
    el("td", {}, el("code", {}, describe(p.schema))),
    el("td", { class: "soft" }, p.description || ""))));
}

function answers(responses) {
  return Object.entries(responses || {}).sort().map(([status, response]) => {
    const answer = resolve(response);
    const content = Object.entries(answer.content || {});
    // Every problem has the same body: shown once, at the end of the page.
    if (content.length === 1 && content[0][0] === "application/problem+json") {
      return el("div", { class: "answer soft" }, el("b", {}, status), answer.description || "");
    }
    const parts = content.map(([type, media]) => el("div", {}, el("div", { class: "soft" }, type), el("pre", { class: "schema" }, describe(media.schema))));
    return el("details", { class: "answer", open: status < 300 }, el("summary", {}, el("b", {}, status), answer.description || ""), ...parts);
  });
}

function tryForm(method, path, operation, parameters, body) {
  const inputs = parameters.filter((p) => p.name !== "X-Tenant-Id").map((p) => ({ p, input: el("input", { name: p.name, placeholder: p.in }) }));
  for (const { p, input } of inputs) if (p.name === "Idempotency-Key") input.value = newKey();
  const [type, media] = body ? Object.entries(body.content)[0] : [];
  const text = body && el("textarea", { "aria-label": "Body", spellcheck: "false" });
  if (text) text.value = type.includes("json") ? JSON.stringify(example(media.schema), null, 2) : "";
  const out = el("div", {});
  const send = async (event) => {
    event.preventDefault();
    let url = path;
    const query = new URLSearchParams();
    const headers = {};
    for (const { p, input } of inputs) {
      const value = input.value;
      if (p.in === "path") url = url.replace("{" + p.name + "}", encodeURIComponent(value));
      else if (value !== "" && p.in === "query") query.set(p.name, value);
      else if (value !== "" && p.in === "header") headers[p.name] = value;
    }
    const token = document.getElementById("token").value.trim();
    const tenant = document.getElementById("tenant").value.trim();
    if (token && operation.security && operation.security.length) headers.Authorization = "Bearer " + token;
    if (tenant && path.startsWith("/api/")) headers["X-Tenant-Id"] = tenant;
    if (text && text.value !== "") headers["Content-Type"] = type;
    if ([...query].length) url += "?" + query;
    out.replaceChildren(el("p", { class: "soft" }, "…"));
    const stop = new AbortController();
    try {
      const begun = performance.now();
      const response = await fetch(url, { method: method.toUpperCase(), headers, body: text && text.value !== "" ? text.value : undefined, signal: stop.signal });
      const took = Math.round(performance.now() - begun);
      const pre = el("pre", { class: "schema" });
      out.replaceChildren(el("p", {}, el("b", {}, response.status + " " + response.statusText), el("span", { class: "soft" }, "  " + took + " ms  " + (response.headers.get("x-request-id") || ""))), pre);
      if ((response.headers.get("content-type") || "").startsWith("text/event-stream")) {
        out.append(el("button", { type: "button", onclick: () => stop.abort() }, "Stop"));
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          pre.textContent = (pre.textContent + value).slice(-20000);
        }
        return;
      }
      const answer = await response.text();
      try { pre.textContent = JSON.stringify(JSON.parse(answer), null, 2); } catch { pre.textContent = answer; }
    } catch (error) {
      if (error.name !== "AbortError") out.replaceChildren(el("p", { class: "delete" }, String(error)));
    }
    for (const { p, input } of inputs) if (p.name === "Idempotency-Key") input.value = newKey();
  };
  return el("form", { onsubmit: send }, ...inputs.map(({ p, input }) => el("label", {}, el("code", {}, p.name), input)), text, el("button", {}, "Send"), out);
}

function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

function route(method, path, operation) {
  const id = method + path.replaceAll(/[^a-z0-9]+/gi, "-");
  const parameters = (operation.parameters || []).map(resolve);
  const body = resolve(operation.requestBody);
  const words = operation.summary || (operation.description || "").split("\n")[0];
  const access = { public: "anyone", signed_in: "signed in", tenant: "", platform: "platform" }[operation["x-access"]] || "";
  const block = el("details", { class: "route", id },
    el("summary", {}, el("span", { class: "method " + method }, method.toUpperCase()), el("span", { class: "path" }, path), el("span", { class: "words" }, words || "")));
  // Drawn when it is first opened: hundreds of schemas would make the page slow.
  block.addEventListener("toggle", () => {
    if (!block.open || block.querySelector(".body")) return;
    const about = operation.description && operation.description !== words ? el("p", {}, operation.description) : undefined;
    block.append(el("div", { class: "body" }, about,
      el("p", {}, el("span", { class: "chip" }, [access, operation["x-permission"]].filter(Boolean).join(": ") || "anyone")),
      parameters.length ? el("h4", {}, "Parameters") : undefined, parameters.length ? parametersTable(parameters) : undefined,
      ...(body ? [el("h4", {}, "Body"), ...Object.entries(body.content).map(([type, media]) => el("div", {}, el("div", { class: "soft" }, type), el("pre", { class: "schema" }, describe(media.schema))))] : []),
      el("h4", {}, "Answers"), ...answers(operation.responses),
      el("h4", {}, "Try it"), tryForm(method, path, operation, parameters, body)));
  });
  const link = el("a", { href: "#" + id, title: words || "" }, el("span", { class: method }, method.toUpperCase() + " "), path.replace("/api/v1", ""));
  link.addEventListener("click", () => { block.open = true; });
  return { block, link, text: (method + " " + path + " " + (words || "") + " " + (operation["x-permission"] || "")).toLowerCase() };
}

function draw() {
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS) {
      const operation = item[method];
      if (!operation) continue;
      const tag = (operation.tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(route(method, path, operation));
    }
  }
  const main = document.getElementById("routes");
  const index = document.getElementById("index");
  main.replaceChildren(el("p", { class: "about" }, api.info.description), el("p", { class: "soft" }, "Version " + api.info.version));
  const sections = [...groups].sort(([a], [b]) => (a === "platform") - (b === "platform") || a.localeCompare(b)).map(([tag, routes]) => {
    const section = el("section", {}, el("h2", {}, tag), ...routes.map((r) => r.block));
    const links = el("div", {}, el("h3", {}, tag), ...routes.map((r) => r.link));
    main.append(section);
    index.append(links);
    return { section, links, routes };
  });
  main.append(el("h2", {}, "Problems"), el("p", { class: "about" }, "The body of every error, of type application/problem+json:"),
    el("pre", { class: "schema" }, describe({ $ref: "#/components/schemas/Problem" })));
  document.getElementById("search").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { section, links, routes } of sections) {
      let any = false;
      for (const r of routes) {
        const shown = words.every((word) => r.text.includes(word));
        r.block.hidden = r.link.hidden = !shown;
        any ||= shown;
      }
      section.hidden = links.hidden = !any;
    }
  });
  const named = location.hash && document.getElementById(location.hash.slice(1));
  if (named) { named.open = true; named.scrollIntoView(); }
}

for (const id of ["token", "tenant"]) {
  const input = document.getElementById(id);
  input.value = sessionStorage.getItem("brandos." + id) || "";
  input.addEventListener("input", () => sessionStorage.setItem("brandos." + id, input.value));
}

fetch("/openapi.json")
  .then((response) => response.json())
  .then((document) => { api = document; draw(); })
  .catch((error) => document.getElementById("routes").replaceChildren(el("p", { class: "delete" }, "The document could not be loaded: " + error)));
