// @ts-check
// Sets the theme before the first paint where the server leaves it to the system. A classic script
// on purpose: it must run before the body is drawn. Knows nothing else.
(() => {
  const root = document.documentElement;
  const system = matchMedia('(prefers-color-scheme: dark)');
  const follow = () => {
    if (root.dataset.theme === 'auto') root.dataset.bsTheme = system.matches ? 'dark' : 'light';
  };
  follow();
  system.addEventListener('change', follow);
})();
