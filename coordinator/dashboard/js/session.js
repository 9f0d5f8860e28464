// Who looks at this page: the token that goes with every question. It is kept by this tab alone, and forgotten with it.

const KEY = "shardlift-token";
/** Roles of people; each covers those before it. */
const ROLES = ["viewer", "operator", "approver", "admin"];

let token = kept();

function kept() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

/** The headers of a question. */
export function credentials() {
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

/** From now on every question shows this token; `null`: none. */
export function present(next) {
  token = next;
  try {
    if (next === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, next);
  } catch {
    // Then it is kept until the page is loaded anew.
  }
}

/** Whether a token is shown at all. */
export function isPresented() {
  return token !== null;
}

/** Whether this role may do what needs `least`. Nobody known yet may nothing. */
export function covers(me, least) {
  return me !== null && ROLES.indexOf(me.role) >= ROLES.indexOf(least);
}
