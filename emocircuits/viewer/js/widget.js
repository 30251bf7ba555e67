import { mount } from "./viewer.js";

// The anywidget contract: the same viewer in a notebook cell; `state` is shared with Python both ways.

export default {
  render({ model, el }) {
    let own = false;
    const onchange = state => {
      own = true;
      model.set?.("state", state);
      model.save_changes?.();
      own = false;
    };
    const viewer = mount(el, model.get("graph"), { ...(model.get("options") ?? {}), onchange });
    const follow = () => { if (!own) viewer.setState(model.get("state") ?? {}); };
    if (Object.keys(model.get("state") ?? {}).length) viewer.setState(model.get("state"));
    model.on?.("change:state", follow);
    return () => {
      model.off?.("change:state", follow);
      viewer.destroy();
    };
  },
};
