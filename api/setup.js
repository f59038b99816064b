// Adds the first user, with the code that is in the address after the #, where neither servers nor logs see it.
const form = document.querySelector("form");
const result = document.querySelector("output");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = { code: location.hash.slice(1) };
  for (const name of ["name", "fullName", "address", "password"]) {
    const value = form.elements[name].value;
    if (value !== "") body[name] = value;
  }
  try {
    const reply = await fetch(form.dataset.prefix + "/setup", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    const answer = await reply.json();
    if (reply.ok) {
      form.remove();
      const link = document.createElement("a");
      link.href = form.dataset.prefix + "/signin";
      link.textContent = "sign in";
      result.replaceChildren(answer.name + " has been added and can ", link, ".");
      return;
    }
    const faults = (answer.errors || []).map((e) => e.pointer.slice(1) + " " + e.detail);
    result.textContent = [answer.detail, ...faults].join(" ");
  } catch {
    result.textContent = "The server did not answer; try again.";
  }
});
