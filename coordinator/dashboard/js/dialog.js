// Asking before something is done: what it will do, the same as a command, and what the coordinator says if it refuses.

import { errorPage } from "./api.js";
import { h, setText, show } from "./dom.js";

/** `{ element, ask(meaning, perform) }`; `perform(body)` does it, and may throw a problem. */
export function confirmation() {
  const element = h("dialog", { class: "dialog", "aria-labelledby": "dialog-title", "aria-describedby": "dialog-will" });
  element.addEventListener("click", (event) => event.target === element && element.close());
  document.body.append(element);

  const ask = (meaning, perform) => {
    const option = meaning.option && choice(meaning.option);
    const command = h("code", {}, meaning.command);
    option?.box.addEventListener("change", () => setText(command, meaning.command + (option.box.checked ? meaning.option.flag : "")));
    const refusal = h("div", { class: "refusal", role: "alert", hidden: true });
    const keep = h("button", { type: "button", class: "button", autofocus: true, on: { click: () => element.close() } }, "Leave it as it is");
    const go = h("button", { type: "submit", class: "button primary", data: { tone: meaning.grave ? "bad" : "busy" } }, meaning.button);
    const submit = async (event) => {
      event.preventDefault();
      go.disabled = true;
      show(refusal, false);
      try {
        await perform(option?.box.checked ? { [meaning.option.key]: true } : meaning.body);
        element.close();
      } catch (problem) {
        refuse(refusal, problem);
      }
      go.disabled = false;
    };
    element.replaceChildren(
      h(
        "form",
        { on: { submit } },
        h("h2", { id: "dialog-title" }, meaning.title),
        h("ul", { id: "dialog-will", class: "will" }, ...meaning.will.filter(Boolean).map((sentence) => h("li", {}, sentence))),
        option?.element,
        h("p", { class: "soft" }, "The same on the command line: ", command),
        refusal,
        h("div", { class: "dialog-buttons" }, keep, go),
      ),
    );
    element.showModal();
  };
  return { element, ask };
}

function choice({ text }) {
  const box = h("input", { type: "checkbox" });
  return { box, element: h("label", { class: "choice" }, box, text) };
}

function refuse(place, { code, message, next }) {
  place.replaceChildren(
    h("p", {}, h("b", {}, "It was refused. "), message),
    h("p", {}, code && h("a", { class: "code", href: errorPage(code), target: "_blank", rel: "noopener" }, code), next ? ` ${next}` : null),
  );
  show(place, true);
}
