// Asking before something is done: what it will do, the same as a command, and what the coordinator says if it refuses.

import { errorPage } from "./api.js";
import { h, setText, show, spoken } from "./dom.js";

/**
 * `{ element, ask(meaning, perform) }`; `perform(body)` does it, and may throw a problem. A meaning may bring a form of its own,
 * `{ element, answer() }`: what is answered is `{ body, flags, ready, button, hint }`.
 */
export function confirmation() {
  const element = h("dialog", { class: "dialog", "aria-labelledby": "dialog-title", "aria-describedby": "dialog-will" });
  element.addEventListener("click", (event) => event.target === element && element.close());
  document.body.append(element);

  const ask = (meaning, perform) => {
    const form = meaning.form ?? (meaning.option ? choice(meaning.option) : nothingElse(meaning.body));
    const command = h("code");
    const hint = h("p", { class: "hint", role: "status" });
    const refusal = h("div", { class: "refusal", role: "alert", hidden: true });
    const keep = h("button", { type: "button", class: "button", autofocus: !meaning.form, on: { click: () => element.close() } }, "Leave it as it is");
    const go = h("button", { type: "submit", class: "button primary", data: { tone: meaning.grave ? "bad" : "busy" } });
    let answer = null;
    const read = () => {
      answer = form.answer();
      setText(command, meaning.command + answer.flags);
      setText(go, answer.button ?? meaning.button);
      setText(hint, answer.hint ?? "");
      show(hint, Boolean(answer.hint));
      go.disabled = !answer.ready;
    };
    const submit = async (event) => {
      event.preventDefault();
      go.disabled = true;
      show(refusal, false);
      try {
        await perform(answer.body);
        element.close();
      } catch (problem) {
        refuse(refusal, problem);
      }
      go.disabled = !answer.ready;
    };
    element.replaceChildren(
      h(
        "form",
        { on: { submit, input: read } },
        h("h2", { id: "dialog-title" }, meaning.title),
        h("ul", { id: "dialog-will", class: "will" }, ...meaning.will.filter(Boolean).map((sentence) => h("li", {}, sentence))),
        form.element,
        hint,
        h("p", { class: "soft" }, "The same on the command line: ", command),
        refusal,
        h("div", { class: "dialog-buttons" }, keep, go),
      ),
    );
    read();
    element.showModal();
  };
  return { element, ask };
}

/** A form of one box. */
function choice({ key, text, flag }) {
  const box = h("input", { type: "checkbox" });
  const answer = () => (box.checked ? { body: { [key]: true }, flags: flag, ready: true } : { flags: "", ready: true });
  return { element: h("label", { class: "choice" }, box, text), answer };
}

/** Yes or no. */
function nothingElse(body) {
  return { element: null, answer: () => ({ body, flags: "", ready: true }) };
}

function refuse(place, { code, message, next }) {
  place.replaceChildren(
    h("p", {}, h("b", {}, "It was refused. "), spoken(message)),
    h("p", {}, code && h("a", { class: "code", href: errorPage(code), target: "_blank", rel: "noopener" }, code), next && " ", spoken(next)),
  );
  show(place, true);
}
