//! Everybody dies, in an order that a seed tells.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::{Control, Engine, Form, Play, Scene, shard};

/// Three workers and three coordinators over one shard; one after another is killed and started again.
async fn killed_in_random_order(seed: u64, store: Engine, engine: Engine, form: Form) {
    let (control, items) = (Control::of(store).await, shard(engine).await);
    let names = ["first", "second", "third"];
    let workers = names.iter().fold(control.builder(&[&items]), |builder, name| {
        let spec = items.worker(name).slots(1);
        builder.worker(spec)
    });
    let scene = Scene::begin(Play::of(workers).await, &control, &items, form).await;
    let mut random = StdRng::seed_from_u64(seed);
    let mut order = Vec::new();
    for _ in 0..8 {
        let picked = random.random_range(0..6_usize);
        order.push(picked);
        let rows = scene.rows().await;
        match picked.checked_sub(3) {
            None => {
                scene.coordinator(picked).kill9();
                scene.coordinator(picked).restart().await.unwrap();
            }
            Some(worker) => {
                let worker = scene.play.installation.worker(worker);
                worker.kill9();
                worker.restart().await.unwrap();
            }
        }
        // So that each hits somebody at work.
        let some_more = async || {
            let now = scene.rows().await;
            anyhow::ensure!(
                now > rows + 100 || now >= items.rows,
                "{now} rows; killed with seed {seed}: {order:?}"
            );
            Ok(())
        };
        scene.play.until("work to go on", some_more).await;
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_and_coordinators_killed_in_any_order_change_every_row_of_postgres_once() {
    killed_in_random_order(5, Engine::Postgres, Engine::Postgres, Form::WithoutWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_and_coordinators_killed_in_any_order_change_every_document_of_mongodb_once() {
    killed_in_random_order(11, Engine::Mongodb, Engine::Mongodb, Form::WithWhere).await;
}
