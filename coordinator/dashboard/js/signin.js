// Asking who looks at the page, when the coordinator wants to know; and saying who it is.

import { readMe } from "./api.js";
import { byId, h, setText, show } from "./dom.js";
import { isPresented, present } from "./session.js";

/** `{ ask(), update(me) }`; `signed()` is called when somebody else looks at the page. */
export function signIn(signed) {
  const field = h("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true });
  const refusal = h("div", { class: "refusal", role: "alert", hidden: true });
  const go = h("button", { type: "submit", class: "button primary", data: { tone: "busy" } }, "Sign in");
  const submit = async (event) => {
    event.preventDefault();
    go.disabled = true;
    show(refusal, false);
    present(field.value.trim());
    try {
      await readMe();
      field.value = "";
      element.close();
      signed();
    } catch (problem) {
      present(null);
      refusal.replaceChildren(h("p", {}, h("b", {}, "Not signed in. "), problem.message));
      show(refusal, true);
    }
    go.disabled = false;
  };
  const element = h(
    "dialog",
    { class: "dialog", "aria-labelledby": "signin-title" },
    h(
      "form",
      { on: { submit } },
      h("h2", { id: "signin-title" }, "Who are you?"),
      h("p", {}, "This coordinator asks everybody. Your token is kept by this tab until you close it."),
      h("label", { class: "field", for: "token" }, "Token", field),
      refusal,
      h("div", { class: "dialog-buttons" }, go),
    ),
  );
  // Without a token nothing can be seen: there is nothing to go back to.
  element.addEventListener("cancel", (event) => event.preventDefault());
  document.body.append(element);
  byId("leave").addEventListener("click", () => {
    present(null);
    signed();
  });
  const ask = () => element.open || element.showModal();
  const update = (me) => {
    show(byId("who"), me !== null && !me.open);
    show(byId("leave"), isPresented());
    if (me) setText(byId("who"), `${me.name} · ${me.role}`);
  };
  return { ask, update };
}
