// The form that asks for a token. It stays until a token is accepted.

import { make } from "./dom.js";

export class Login {
  constructor() {
    this.token = make("input", { type: "password", id: "token", autocomplete: "current-password", required: true, spellcheck: "false" });
    this.problem = make("p", { class: "notice", role: "alert" });
    this.button = make("button", { type: "submit", class: "primary" }, "Open");
    this.form = make("form", {},
      make("h2", { id: "login-title" }, "This Dropframe asks for a token"),
      make("p", { class: "soft" }, "Whoever runs it makes one with ", make("code", {}, "dropframe token NAME"), "."),
      make("input", { type: "text", autocomplete: "username", value: "Dropframe", hidden: true }),
      make("label", { for: "token" }, "Token"), this.token, this.problem,
      make("p", { class: "soft small" }, "It is kept in this tab, and forgotten when the tab is closed. Videos and pictures can be fetched for up to 15 minutes more."),
      this.button);
    this.dialog = make("dialog", { class: "login", "aria-labelledby": "login-title" }, this.form);
    this.dialog.addEventListener("cancel", (event) => event.preventDefault());
  }

  /**
   * Ask until a token is accepted.
   * @param {(token: string) => Promise<string | null>} check returns null, or what is wrong
   * @returns {Promise<void>}
   */
  ask(check) {
    if (!this.dialog.isConnected) document.body.append(this.dialog);
    if (!this.dialog.open) this.dialog.showModal();
    this.token.focus();
    return new Promise((accepted) => {
      this.form.onsubmit = async (event) => {
        event.preventDefault();
        this.button.disabled = true;
        const problem = await check(this.token.value.trim());
        this.button.disabled = false;
        this.problem.textContent = problem ?? "";
        if (problem !== null) return this.token.select();
        this.token.value = "";
        this.dialog.close();
        accepted();
      };
    });
  }
}
