// Short names for what every part of the page does with its document.

export const $ = (id) => document.getElementById(id);
export const radio = (name) => document.querySelector(`input[name=${name}]:checked`).value;
export const choose = (name, value) => document.querySelector(`input[name=${name}][value=${value}]`).click();

export function element(tag, properties = {}, text = null) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  if (text !== null) made.textContent = text;
  return made;
}
