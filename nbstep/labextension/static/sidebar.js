// The panel in JupyterLab's left sidebar, for the project of the open notebook, without a kernel.

import { RestModel } from "./rest.js";

const SHOW = "nbstep:show";
const TITLE = "Kept steps (nbstep)";
const NO_NOTEBOOK = "Open a notebook: what its project's steps keep appears here.";
const NOT_ON_DISK = "This notebook is not in a folder of the Jupyter server, so there is no cache to show.";
const WAITING = "Waiting for the Jupyter server …";
const ICON = `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><path class="jp-icon3" fill="#616161"
  d="M3.6 8.6 1.5 6.5 2.6 5.4 3.6 6.4 6.6 3.4 7.7 4.5ZM3.6 14.6 1.5 12.5 2.6 11.4 3.6 12.4 6.6 9.4 7.7 10.5ZM3.6
  20.6 1.5 18.5 2.6 17.4 3.6 18.4 6.6 15.4 7.7 16.5ZM10 5h12v2H10ZM10 11h12v2H10ZM10 17h12v2H10Z"/></svg>`;

export async function makePlugin(shared, here) {
  const { Widget } = await shared("@lumino/widgets");
  const { ServerConnection } = await shared("@jupyterlab/services");
  const { LabIcon } = await shared("@jupyterlab/ui-components");
  const { INotebookTracker } = await shared("@jupyterlab/notebook");
  const { ILayoutRestorer } = await shared("@jupyterlab/application");
  const { ICommandPalette } = await shared("@jupyterlab/apputils");

  class Sidebar extends Widget {
    constructor(app, tracker) {
      super();
      this.id = "nbstep-sidebar";
      this.addClass("nbstep-sidebar");
      this.title.icon = new LabIcon({ name: "nbstep:steps", svgstr: ICON });
      this.title.caption = TITLE;
      this.node.setAttribute("role", "region");
      this.node.setAttribute("aria-label", TITLE);
      this.head = document.createElement("h2");
      this.head.textContent = "Kept steps";
      this.message = document.createElement("p");
      this.message.setAttribute("role", "status");
      this.place = document.createElement("div");
      this.place.className = "nbstep-sidebar-place";
      this.node.append(this.head, this.message, this.place);
      this.contents = app.serviceManager.contents;
      this.settings = app.serviceManager.serverSettings;
      this.tracker = tracker;
      this.leave = () => tracker.currentWidget && app.shell.activateById(tracker.currentWidget.id);
      this.onMoved = () => this.follow();
      tracker.currentChanged.connect(() => this.follow());
      this.tell(NO_NOTEBOOK);
    }

    onAfterShow() {
      this.model?.resume();
      this.follow();
    }

    onBeforeHide() {
      this.model?.pause();
    }

    onActivateRequest() {
      (this.place.querySelector("input") ?? this.node).focus({ preventScroll: true });
    }

    tell(text) {
      if (this.message.textContent !== text) this.message.textContent = text;
      this.message.hidden = !text;
      this.place.hidden = Boolean(text);
    }

    // Shows the project of the notebook that was looked at last.
    async follow() {
      const context = this.tracker.currentWidget?.context;
      if (context !== this.context) {
        this.context?.pathChanged.disconnect(this.onMoved);
        context?.pathChanged.connect(this.onMoved);
        this.context = context;
      }
      if (!this.isVisible) return;
      const drive = context && this.contents.driveName(context.path);
      const path = context && (!drive || drive === "RTC") ? this.contents.localPath(context.path) : null;
      if (path !== null && this.model && folderOf(this.model.path) === folderOf(path)) {
        this.model.path = path;
        return;
      }
      this.clear();
      if (path === null) {
        this.tell(context ? NOT_ON_DISK : NO_NOTEBOOK);
        return;
      }
      const model = new RestModel((address, init) => this.request(address, init), path, (text) => this.tell(text));
      this.model = model;
      this.tell("");
      const { Panel } = await import(new URL("panel.js", here));
      if (this.model !== model) return;
      this.panel = new Panel(model, this.place, { fill: true, waiting: WAITING, leave: this.leave });
    }

    clear() {
      this.panel?.close();
      this.model?.close();
      this.panel = this.model = undefined;
      this.place.replaceChildren();
    }

    request(address, init) {
      return ServerConnection.makeRequest(`${this.settings.baseUrl}nbstep/${address}`, init, this.settings);
    }
  }

  return {
    id: "nbstep:sidebar",
    description: "Lists, deletes and brings back what steps keep, without a kernel.",
    autoStart: true,
    optional: [INotebookTracker, ILayoutRestorer, ICommandPalette],
    activate(app, tracker, restorer, palette) {
      if (!tracker) return; // a page without notebooks
      for (const name of ["panel.css", "sidebar.css"]) addStyle(new URL(name, here));
      const sidebar = new Sidebar(app, tracker);
      app.shell.add(sidebar, "left", { rank: 850, type: "nbstep" });
      restorer?.add(sidebar, sidebar.id);
      app.commands.addCommand(SHOW, { label: "Show Kept Steps", execute: () => app.shell.activateById(sidebar.id) });
      palette?.addItem({ command: SHOW, category: "nbstep" });
    },
  };
}

function folderOf(path) {
  return path.slice(0, path.lastIndexOf("/") + 1);
}

function addStyle(address) {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = address;
  document.head.append(link);
}
