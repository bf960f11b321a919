// What JupyterLab loads: a module federation container, written by hand as there is nothing to build.
//
// `init` brings the packages that JupyterLab shares, `get` the extension. The rest are plain modules beside this file; panel.js
// and panel.css are the notebook panel's own.

(() => {
  const here = new URL(".", document.currentScript.src);
  let scope = null;

  // A package as JupyterLab itself uses it.
  async function shared(name) {
    const versions = scope[name];
    if (!versions) throw new Error(`JupyterLab does not share ${name}`);
    const newest = Object.keys(versions).sort().pop();
    return (await versions[newest].get())();
  }

  window._JUPYTERLAB ??= {};
  window._JUPYTERLAB.nbstep = {
    init(sharedScope) {
      scope = sharedScope;
    },
    async get() {
      const { makePlugin } = await import(new URL("sidebar.js", here));
      const plugin = await makePlugin(shared, here);
      return () => ({ __esModule: true, default: plugin });
    },
  };
})();
