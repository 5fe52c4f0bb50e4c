// The page of results within JupyterLab: runs in a sidebar, and a button that runs the open notebook headless with other values.
// JupyterLab loads a federated extension as a container with `init` and `get`; what it shares is all that is needed, so nothing is bundled.
"use strict";
(() => {
const ICON = '<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 16 16"><path class="jp-icon3" d="M2 2v12h12M4 11l3-4 3 2 4-6" fill="none" stroke="#616161" stroke-width="1.5"/></svg>';
let shared = null;
/** Load a package of JupyterLab in the version that it has. */
const load = async (name) => (await Object.values(shared[name])[0].get())();

/** Where jupyter-server-proxy serves the page of results. */
async function findPage(coreutils, services) {
  const settings = services.ServerConnection.makeSettings();
  const answer = await services.ServerConnection.makeRequest(coreutils.URLExt.join(settings.baseUrl, "server-proxy/servers-info"), {}, settings);
  const known = answer.ok ? (await answer.json()).server_processes : [], found = known.find((one) => one.name === "results");
  if (!found) throw new Error("The page of results is not among the servers of jupyter-server-proxy. Install it: pip install 'ml_repo[all]'");
  const [path, query] = found.launcher_entry.path_info.split("?");
  return { base: coreutils.URLExt.join(settings.baseUrl, path), query };
}

/** A panel with a page of the server, which says that it starts until the page is there. */
function makePanel(widgets, address, id, label) {
  const panel = new widgets.Widget();
  panel.id = id; panel.title.label = label; panel.title.closable = true;
  panel.node.style.cssText = "display: flex; flex-direction: column; background: var(--jp-layout-color1)";
  const said = document.createElement("p"), frame = document.createElement("iframe");
  said.textContent = "Starting the page of results …"; said.style.cssText = "padding: 1rem; color: var(--jp-ui-font-color1)";
  frame.title = label; frame.style.cssText = "flex: 1; border: 0; width: 100%; display: none";
  frame.addEventListener("load", () => { said.remove(); frame.style.display = ""; });
  panel.node.append(said, frame);
  address.then((link) => { frame.src = link; }, (error) => { said.textContent = error.message; });
  return panel;
}

async function makePlugin() {
  const [widgets, notebook, coreutils, services, ui] = await Promise.all(["@lumino/widgets", "@jupyterlab/notebook", "@jupyterlab/coreutils", "@jupyterlab/services", "@jupyterlab/ui-components"].map(load));
  const activate = (app, tracker) => {
    const icon = new ui.LabIcon({ name: "ml-repo:runs", svgstr: ICON });
    let page = null, count = 0;
    const ask = async (name, hash) => { const { base, query } = await (page ??= findPage(coreutils, services)); return `${base}${name}?${query}#${hash}`; };
    /** Show a page in the main area, where there is room for it; once, however often it is asked for. */
    const opened = new Map(), show = (link, label) => {
      if (!opened.has(link)) {
        const panel = makePanel(widgets, Promise.resolve(link), `ml-repo-page-${count += 1}`, label);
        panel.title.icon = icon; opened.set(link, panel);
        panel.disposed.connect(() => opened.delete(link));
        app.shell.add(panel, "main");
      }
      app.shell.activateById(opened.get(link).id);
    };

    const sidebar = new widgets.Widget();
    sidebar.id = "ml-repo-runs"; sidebar.title.icon = icon; sidebar.title.caption = "Runs";
    sidebar.node.style.cssText = "display: flex";
    app.shell.add(sidebar, "left", { rank: 150 });
    const fill = new MutationObserver(() => { // the server starts when somebody looks
      if (!sidebar.isVisible || sidebar.node.firstChild) return;
      const inner = makePanel(widgets, ask("", "plot=none"), "ml-repo-runs-page", "Runs"), frame = inner.node.querySelector("iframe");
      inner.node.style.flex = "1";
      frame.addEventListener("load", () => frame.contentDocument.addEventListener("click", (event) => {
        const link = event.target.closest?.("a[href]");
        if (!link || link.pathname === frame.contentWindow.location.pathname) return;
        event.preventDefault();
        show(link.href, link.textContent);
      }));
      sidebar.node.append(inner.node);
    });
    fill.observe(sidebar.node, { attributes: true, attributeFilter: ["class"] });

    app.commands.addCommand("ml-repo:run", {
      label: "Run headless with parameters …", icon, isEnabled: () => !!tracker.currentWidget,
      execute: async () => {
        const context = tracker.currentWidget.context;
        await context.save(); // what runs is the file
        const panel = makePanel(widgets, ask("new.html", encodeURIComponent(context.path)), `ml-repo-run-${count += 1}`, "New run");
        panel.title.icon = icon;
        app.shell.add(panel, "main", { mode: "split-right" });
        app.shell.activateById(panel.id);
      },
    });
    app.docRegistry.addWidgetExtension("Notebook", {
      createNew: (panel) => {
        const button = new ui.ToolbarButton({ icon, tooltip: "Run headless with parameters", onClick: () => app.commands.execute("ml-repo:run") });
        panel.toolbar.insertItem(11, "ml-repo-run", button);
        return button;
      },
    });
    addEventListener("message", async (event) => { // a page asks for a notebook of a record
      if (event.origin !== location.origin || typeof event.data?.mlRepoOpen !== "string") return;
      app.commands.execute("docmanager:open", { path: event.data.mlRepoOpen });
    });
  };
  return { id: "ml-repo:runs", description: "Runs of this repository", autoStart: true, requires: [notebook.INotebookTracker], activate };
}

window._JUPYTERLAB ??= {};
window._JUPYTERLAB["ml-repo"] = {
  init: (scope) => { shared = scope; },
  get: async () => { const plugin = await makePlugin(); return () => ({ __esModule: true, default: plugin }); },
};
})();
